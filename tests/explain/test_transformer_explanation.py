"""The transformer's `:explain`: the same decision, its reasons in raw units, one sentence."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nimbusguard.contract.actions import ACTION_DIM, ScaleAction
from nimbusguard.contract.errors import InvalidRequest, NonFiniteOutput, PredictorUnavailable
from nimbusguard.contract.features import NAMES, STATE_DIM
from nimbusguard.contract.fingerprint import FINGERPRINT
from tests.serving.in_process import (
    ROW,
    DirectClient,
    Outcome,
    ask_all,
    packaged_network,
    transformer_service,
)
from transformer.explain_tensors import SHAPES, Tensor, explanation_from
from transformer.explain_words import Explained, document_of

HOT = {**dict(zip(NAMES, ROW, strict=True)), "workload": "web", "max_replicas": 5}


@pytest.fixture
async def client() -> DirectClient:
    return DirectClient(packaged_network().infer)


def document(service: Any, outcome: Outcome) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(service.v1_body(outcome.result))
    return parsed


async def test_the_decisions_are_those_of_predict(client: DirectClient) -> None:
    """Mask, bounds and workload included; only the explanations are added."""
    service = transformer_service(client)
    body = {"instances": [HOT, ROW]}

    (plain,) = await ask_all(service, [body])
    (explained,) = await ask_all(service.explanation, [body])

    wanted = document(service, plain)["predictions"]
    answer = document(service.explanation, explained)
    for one, other in zip(answer["predictions"], wanted, strict=True):
        assert one.pop("q_values") == pytest.approx(other.pop("q_values"), abs=1e-4)
        assert one.pop("q_margin") == pytest.approx(other.pop("q_margin"), abs=1e-4)
        assert one == other
    assert [row["action"] for row in answer["explanations"]] == ["SCALE_UP_1", "SCALE_UP_2"]


async def test_attributions_add_up_in_raw_units(client: DirectClient) -> None:
    """To the Q-value less the baseline's, and preferences to the lead over the next best action."""
    service = transformer_service(client).explanation
    (outcome,) = await ask_all(service, [{"instances": [ROW]}])

    (row,) = document(service, outcome)["explanations"]

    assert [feature["value"] for feature in row["features"]] == ROW
    added = sum(feature["attribution"] for feature in row["features"])
    assert added == pytest.approx(row["q_value"] - row["baseline_q_value"], abs=1e-3)
    assert row["completeness_error"] < 1e-3
    preferred = sum(feature["preference"] for feature in row["features"])
    other = outcome.result.answer
    lead = [
        q[row_index]
        for q, row_index in (
            (other.q_values[0], ScaleAction[row["action"]]),
            (other.q_values[0], ScaleAction[row["next_best_action"]]),
            (other.baseline_q_values[0], ScaleAction[row["action"]]),
            (other.baseline_q_values[0], ScaleAction[row["next_best_action"]]),
        )
    ]
    assert preferred == pytest.approx(lead[0] - lead[1] - (lead[2] - lead[3]), abs=2e-3)


async def test_an_imputed_feature_is_shown_as_what_it_was_read_as(client: DirectClient) -> None:
    """An absent queue counts as 0, in the explanation too."""
    service = transformer_service(client).explanation
    (outcome,) = await ask_all(service, [{"instances": [[*ROW[:7], None, *ROW[8:]]]}])

    (row,) = document(service, outcome)["explanations"]

    assert row["features"][7]["value"] == 0.0


async def test_a_row_that_cannot_be_decided_on_is_not_explained(client: DirectClient) -> None:
    """With the message that `:predict` gives."""
    service = transformer_service(client).explanation

    (outcome,) = await ask_all(service, [{"instances": [ROW, [None, *ROW[1:]]]}])

    assert isinstance(outcome.error, InvalidRequest)
    assert str(outcome.error).startswith("instance 1: cpu_utilization")


async def test_v2_has_the_attributions_of_the_chosen_action(client: DirectClient) -> None:
    """FP32 (B, 11) beside the outputs of a plain answer."""
    service = transformer_service(client).explanation
    payload = service.parse_v2({"raw_metrics": np.array([ROW, ROW])})
    outcome = Outcome(*payload)
    service.submit(outcome)
    await outcome.ended

    tensors = {output.name: output.data for output in service.v2_response(outcome.result).outputs}

    assert list(tensors) == [spec.name for spec in service.outputs]
    assert tensors["attributions"].shape == (2, STATE_DIM)
    own = outcome.result.answer.attributions[0, tensors["action_index"][0]]
    np.testing.assert_array_equal(tensors["attributions"][0], own)


def explained(**changes: Any) -> Explained:
    attributions = np.zeros((ACTION_DIM, STATE_DIM), dtype=np.float32)
    attributions[3, 0], attributions[3, 7], attributions[3, 4] = 0.8, 0.3, -0.2
    attributions[2, 8] = 0.001
    base: dict[str, Any] = {
        "action": ScaleAction.SCALE_UP_1,
        "current": 4,
        "target": 5,
        "allowed": np.ones(ACTION_DIM, dtype=np.bool_),
        "values": np.array(ROW, dtype=np.float64),
        "q_values": np.array([0.0, 0.1, 0.5, 0.9, 0.3], dtype=np.float32),
        "baseline_q_values": np.zeros(ACTION_DIM, dtype=np.float32),
        "attributions": attributions,
        "completeness_error": 0.0,
    }
    return Explained(**(base | changes))


def test_the_sentence_names_what_speaks_for_and_against() -> None:
    """With values, units and the calm workload's; what hardly matters is left out."""
    assert document_of(explained())["sentence"] == (
        "SCALE_UP_1 (4 to 5 replicas) is preferred to NO_ACTION: compared with a calm workload, "
        "cpu_utilization 0.93 (calm 0.5) and queue_depth 12 requests (calm 4) speak for it, "
        "pod_count 4 pods (calm 4) against it."
    )


def test_the_sentence_says_what_a_calm_workload_gets_too() -> None:
    """Where nothing speaks for an action that leads all the same, its lead is the baseline's."""
    same = np.zeros((ACTION_DIM, STATE_DIM), dtype=np.float32)
    against = same.copy()
    against[ScaleAction.SCALE_UP_1, 0] = -0.5
    begin = "SCALE_UP_1 (4 to 5 replicas) is preferred to NO_ACTION: so it is for a calm workload"

    said = [document_of(explained(attributions=each))["sentence"] for each in (same, against)]

    assert said == [
        f"{begin}, and nothing speaks against it.",
        f"{begin}, and cpu_utilization 0.93 (calm 0.5) speaks against it, but not enough.",
    ]


def test_the_sentence_of_a_bound_says_so() -> None:
    """Where nothing else is allowed there is nothing to prefer."""
    only = np.arange(ACTION_DIM) == ScaleAction.NO_ACTION
    row = document_of(explained(action=ScaleAction.NO_ACTION, target=4, allowed=only))

    assert row["sentence"] == ("NO_ACTION (stay at 4 replicas): the bounds allow no other action.")
    assert row["next_best_action"] is None
    assert row["features"][0]["preference"] is None


def tensors(rows: int = 2) -> dict[str, Tensor]:
    return {
        name: Tensor("FP32", [rows, *shape], np.zeros((rows, *shape), dtype=np.float32).ravel())
        for name, shape in SHAPES.items()
    }


def test_an_explanation_over_the_hop_is_read_by_name() -> None:
    """Whatever the order."""
    answer = explanation_from(dict(reversed(tensors().items())), 2, "1", FINGERPRINT)

    assert answer.attributions.shape == (2, ACTION_DIM, STATE_DIM)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attributions": Tensor("FP32", [2, 5, 12], np.zeros(120, np.float32))}, r"\[2, 5, 12\]"),
        ({"q_values": Tensor("FP64", [2, 5], np.zeros(10, np.float32))}, "'FP64'"),
        ({"q_values": Tensor("FP32", [2, 5], np.zeros(9, np.float32))}, "got 9"),
    ],
)
def test_a_foreign_answer_is_refused(change: dict[str, Tensor], said: str) -> None:
    """Another shape, type or number of values; never read as if it were ours."""
    with pytest.raises(PredictorUnavailable, match=said):
        explanation_from(tensors() | change, 2, "1", FINGERPRINT)


def test_a_missing_output_is_refused() -> None:
    """As from a predictor that knows no explanations."""
    found = tensors()
    del found["completeness_error"]

    with pytest.raises(PredictorUnavailable, match="completeness_error FP32 of shape"):
        explanation_from(found, 2, "1", FINGERPRINT)


def test_nan_over_the_hop_is_refused() -> None:
    """Counted as the network's fault, as for Q-values."""
    poison = Tensor("FP32", [2, 5], np.full(10, np.nan, dtype=np.float32))

    with pytest.raises(NonFiniteOutput, match="q_values: NaN"):
        explanation_from(tensors() | {"q_values": poison}, 2, "1", FINGERPRINT)
