"""A decision is checked on receipt; what is wrong with one is refused by its path."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.client.decision import Decision, decisions_from
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import (
    IncompatibleModel,
    NimbusGuardError,
    NonFiniteOutput,
    PredictorUnavailable,
)
from nimbusguard.contract.features import NAMES
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.policy.greedy import choose


def body_of(*rows: Any) -> bytes:
    return orjson.dumps({"predictions": list(rows)})


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """Rows as a correct transformer makes them."""
    q_values = draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=5, max_size=5))
    minimum = draw(st.integers(0, 50))
    bounds = (draw(st.integers(0, 60)), minimum, draw(st.integers(minimum, 60)))
    current, low, high = (np.array([value], dtype=np.int64) for value in bounds)
    choice = choose(np.array([q_values], dtype=np.float32), current, low, high)
    action = ScaleAction(int(choice.action[0]))
    return {
        "action": action.name,
        "action_index": int(action),
        "replica_change": action.change,
        "current_replicas": bounds[0],
        "target_replicas": int(choice.target[0]),
        "q_values": q_values,
        "q_margin": float(choice.margin[0]),
        "allowed_actions": [a.name for a in ScaleAction if choice.allowed[0, a]],
        "clipped_features": draw(st.lists(st.sampled_from(NAMES), unique=True)),
        "imputed_features": draw(st.lists(st.sampled_from(NAMES), unique=True)),
        "model_name": "nimbusguard-dqn",
        "model_version": "7",
        "fingerprint": FINGERPRINT,
    }


@given(st.lists(answers(), min_size=1, max_size=4))
def test_every_answer_of_the_greedy_policy_is_read_and_written_back(
    rows: list[dict[str, Any]],
) -> None:
    """Reading then writing a correct answer changes nothing, under any bounds."""
    decisions = decisions_from(body_of(*rows), expected=len(rows))

    assert [decision.to_dict() for decision in decisions] == rows


def test_a_decision_is_immutable(row: dict[str, Any]) -> None:
    """Nobody can alter a decision after it was checked."""
    decision = decisions_from(body_of(row), expected=1)[0]

    with pytest.raises(AttributeError):
        decision.action = ScaleAction.NO_ACTION  # type: ignore[misc]
    assert decision == Decision(
        action=ScaleAction.SCALE_UP_1,
        current_replicas=4,
        q_values=(-0.41, 0.02, 0.55, 0.83, 0.79),
        q_margin=0.04,
        allowed_actions=tuple(ScaleAction),
        clipped_features=(),
        imputed_features=("response_time_p95",),
        model_name="nimbusguard-dqn",
        model_version="2",
        fingerprint=FINGERPRINT,
    )


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"action": "SCALE_UP_9"}, "action"),
        ({"action": None}, "action"),
        ({"action": ["SCALE_UP_1"]}, "action"),
        ({"action": "SCALE_UP_2"}, "action_index"),
        ({"action_index": 2}, "action_index"),
        ({"action_index": 3.0}, "action_index"),
        ({"action_index": None}, "action_index"),
        ({"replica_change": 2}, "replica_change"),
        ({"replica_change": True}, "replica_change"),
        ({"current_replicas": -4, "target_replicas": -3}, "current_replicas"),
        ({"current_replicas": "4"}, "current_replicas"),
        ({"target_replicas": 50}, "target_replicas"),
        (
            {
                "action": "SCALE_DOWN_2",
                "action_index": 0,
                "replica_change": -2,
                "current_replicas": 1,
                "target_replicas": -1,
            },
            "target_replicas",
        ),
        ({"q_values": [1, 2, 3, 4]}, "q_values"),
        ({"q_values": [1, 2, 3, 4, 5, 6]}, "q_values"),
        ({"q_values": None}, "q_values"),
        ({"q_values": [0, 0, 0, "1", 0]}, r"q_values\[3\]"),
        ({"q_values": [0, 0, 0, True, 0]}, r"q_values\[3\]"),
        ({"q_values": [9, 0, 0, 1, 0]}, "action"),
        ({"q_margin": -0.1}, "q_margin"),
        ({"q_margin": "0"}, "q_margin"),
        ({"allowed_actions": []}, "allowed_actions"),
        ({"allowed_actions": "NO_ACTION"}, "allowed_actions"),
        ({"allowed_actions": ["SCALE_UP_1"]}, "allowed_actions"),
        ({"allowed_actions": ["SCALE_UP_1", "NO_ACTION"]}, "allowed_actions"),
        ({"allowed_actions": ["NO_ACTION", "NO_ACTION", "SCALE_UP_1"]}, "allowed_actions"),
        ({"allowed_actions": ["NO_ACTION", "STAY"]}, "allowed_actions"),
        ({"allowed_actions": ["NO_ACTION", "SCALE_UP_2"]}, "action"),
        ({"clipped_features": ["cpu"]}, "clipped_features"),
        ({"clipped_features": None}, "clipped_features"),
        ({"imputed_features": [None]}, "imputed_features"),
        ({"model_name": ""}, "model_name"),
        ({"model_version": 2}, "model_version"),
        ({"fingerprint": None}, "fingerprint"),
    ],
)
def test_an_inconsistent_answer_is_refused_by_its_path(
    row: dict[str, Any], change: dict[str, Any], path: str
) -> None:
    """The message names the row and the field, what was expected and what came."""
    with pytest.raises(
        PredictorUnavailable, match=rf"^predictions\[1\]\.{path}: expected .*, got "
    ):
        decisions_from(body_of(row, row | change), expected=2)


@pytest.mark.parametrize("field", ["q_values", "q_margin"])
def test_null_never_becomes_a_decision(row: dict[str, Any], field: str) -> None:
    """NaN is null on the wire; it is an error of the network, not a number."""
    row[field] = [0.0, None, 0.0, 1.0, 0.0] if field == "q_values" else None

    with pytest.raises(NonFiniteOutput, match=r"predictions\[0\]\.q_.*got null"):
        decisions_from(body_of(row), expected=1)


def test_a_foreign_feature_table_is_refused_before_anything_else(row: dict[str, Any]) -> None:
    """Its action index may mean something else, so nothing of the row is believed."""
    row |= {"fingerprint": "sha256:" + "0" * 64, "action": "MULTIPLY"}

    with pytest.raises(IncompatibleModel, match=r"expected sha256:.*, got sha256:000"):
        decisions_from(body_of(row), expected=1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>gateway</html>",
        b'{"predictions": [',
        b"null",
        b"[]",
        b"{}",
        b'{"predictions": {}}',
        b'{"predictions": []}',
        b'{"predictions": [1]}',
        b'{"predictions": [null]}',
        b'{"predictions": [NaN]}',
        b"\xff\xfe",
    ],
)
def test_a_body_that_is_no_answer_is_refused(body: bytes) -> None:
    """The message says what was expected."""
    with pytest.raises(PredictorUnavailable, match="expected"):
        decisions_from(body, expected=1)


def test_an_answer_for_another_number_of_instances_is_refused(row: dict[str, Any]) -> None:
    """One decision too few would be applied to the wrong workload."""
    with pytest.raises(PredictorUnavailable, match="predictions: expected 2, one an instance"):
        decisions_from(body_of(row), expected=2)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-9, 9)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(answers(), st.integers(0, 12), JSON)
def test_whatever_stands_in_a_field_there_is_a_decision_or_an_error_of_ours(
    row: dict[str, Any], position: int, junk: Any
) -> None:
    """No answer makes the client fail in a way that its caller does not expect."""
    row[list(row)[position]] = junk

    try:
        decisions = decisions_from(body_of(row), expected=1)
    except NimbusGuardError:
        return

    assert decisions[0].to_dict() == row
