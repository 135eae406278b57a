"""The predictor's `:explain`: a path of its own beside predictions, with limits of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from model_store.probe import probe_states
from nimbusguard.contract.errors import InvalidRequest, NonFiniteOutput, NotFound, Overloaded
from predictor.explain import Attribution
from predictor.explanation import PredictorExplanation
from predictor.loader import LoadedModel
from predictor.service import PredictorService
from serving.metrics import ServingMetrics
from tests.service.processes import VERSION
from tests.serving.in_process import (
    STATE,
    Network,
    Outcome,
    ask_all,
    packaged_network,
    predictor_service,
)

BODY = {"instances": [STATE]}


class Gate:
    """An explainer that waits until it may answer."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.asked = 0

    def explain(self, state: np.ndarray) -> Attribution:
        self.asked += 1
        assert self.may.wait(10.0)
        explainer = packaged_network().explainer
        assert explainer is not None
        return explainer.explain(state)


def service_with(explainer: Any) -> PredictorService:
    loaded = packaged_network()
    network = Network(loaded.infer)
    network.explainer = explainer
    return predictor_service(network)


async def test_predictions_do_not_wait_for_explanations() -> None:
    """While one is under way a prediction is answered; the explanation comes when it is done."""
    gate = Gate()
    service = service_with(gate)
    explaining = Outcome(*service.explanation.parse_v1(BODY))
    service.explanation.submit(explaining)

    (predicted,) = await ask_all(service, [BODY])

    assert predicted.error is None
    assert not explaining.ended.done()
    gate.may.set()
    await explaining.ended
    assert explaining.error is None


async def test_more_explanations_than_may_wait_are_refused() -> None:
    """Eight may be under way; the ninth is told so at once, and there is room again afterwards."""
    gate = Gate()
    explanation = service_with(gate).explanation
    waiting = [Outcome(*explanation.parse_v1(BODY)) for _ in range(8)]
    for outcome in waiting:
        explanation.submit(outcome)

    with pytest.raises(Overloaded, match="8 explanations are under way"):
        explanation.submit(Outcome(*explanation.parse_v1(BODY)))

    gate.may.set()
    await asyncio.gather(*(outcome.ended for outcome in waiting))
    assert not explanation.is_full


async def test_who_has_gone_is_not_explained_to() -> None:
    """The work is left out, and its place is free."""
    gate = Gate()
    gate.may.set()
    explanation = service_with(gate).explanation
    gone, stays = (Outcome(*explanation.parse_v1(BODY)) for _ in range(2))
    gone.gone = True

    explanation.submit(gone)
    explanation.submit(stays)
    await stays.ended

    assert gate.asked == 1
    assert not gone.ended.done()


async def test_the_answer_has_every_action_and_the_baseline() -> None:
    """V1 nested arrays, V2 four tensors; both say the same."""
    explanation = predictor_service().explanation
    body = {"instances": probe_states(3).tolist()}
    (outcome,) = await ask_all(explanation, [body])

    document = orjson.loads(explanation.v1_body(outcome.result))
    response = explanation.v2_response(outcome.result)

    assert len(document["baseline"]) == 11
    assert np.array([row["attributions"] for row in document["explanations"]]).shape == (3, 5, 11)
    for row, q_values in zip(document["explanations"], outcome.result.q_values, strict=True):
        np.testing.assert_allclose(row["q_values"], q_values, rtol=1e-6)
    assert [output.name for output in response.outputs] == [
        spec.name for spec in explanation.outputs
    ]
    assert response.parameters["model_version"] == VERSION


def test_more_rows_than_may_be_are_refused() -> None:
    """Sixteen, in either protocol."""
    explanation = predictor_service().explanation

    with pytest.raises(InvalidRequest, match="at most 16 rows"):
        explanation.parse_v1({"instances": [STATE] * 17})
    with pytest.raises(InvalidRequest, match="at most 16 rows"):
        explanation.parse_v2({"state": np.full((17, 11), 0.5, dtype=np.float32)})


def test_what_is_no_state_is_refused_before_it_is_queued() -> None:
    """With instance and feature."""
    explanation = predictor_service().explanation

    with pytest.raises(InvalidRequest, match="instance 1: error_rate: expected a normalized"):
        explanation.parse_v1({"instances": [STATE, [*STATE[:6], 1.5, *STATE[7:]]]})


async def test_a_network_without_a_twin_serves_and_is_not_explained() -> None:
    """A version whose script keeps single-precision constants answers 404 to `:explain`."""
    explanation = service_with(None).explanation

    with pytest.raises(NotFound, match=f"version {VERSION} has none"):
        explanation.submit(Outcome(*explanation.parse_v1(BODY)))


async def test_gradients_that_are_not_finite_are_an_error() -> None:
    """Never NaN in a body."""

    class Broken:
        def explain(self, state: np.ndarray) -> Attribution:
            return Attribution(*(np.full(n, np.nan, dtype=np.float32) for n in (5, 5, 55, 1)))

    (outcome,) = await ask_all(service_with(Broken()).explanation, [BODY])

    assert isinstance(outcome.error, NonFiniteOutput)


async def test_a_defect_of_the_explainer_fails_its_call_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the next explanation is made."""

    class Fails:
        calls = 0

        def explain(self, state: np.ndarray) -> Attribution:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError
            explainer = packaged_network().explainer
            assert explainer is not None
            return explainer.explain(state)

    first, second = await ask_all(service_with(Fails()).explanation, [BODY, BODY])

    assert isinstance(first.error, RuntimeError)
    assert second.error is None
    assert "explanation failed" in caplog.text


async def test_waiting_and_work_are_stages_of_their_own() -> None:
    """One observation each; gradients that are not finite are counted with the other outputs."""
    metrics = ServingMetrics("predictor", "m")
    good = PredictorExplanation("m", packaged_network(), metrics)
    await ask_all(good, [BODY])

    class Broken:
        def explain(self, state: np.ndarray) -> Attribution:
            return Attribution(*(np.full(n, np.nan, dtype=np.float32) for n in (5, 5, 55, 1)))

    network = Network(packaged_network().infer)
    network.explainer = Broken()  # type: ignore[assignment]
    await ask_all(PredictorExplanation("m", network, metrics), [BODY])  # type: ignore[arg-type]

    samples = {
        (sample.name, sample.labels.get("stage")): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }
    assert samples["nimbusguard_stage_duration_seconds_count", "explain_queue"] == 1
    assert samples["nimbusguard_stage_duration_seconds_count", "explain"] == 1
    assert samples["nimbusguard_non_finite_outputs_total", None] == 1


def test_single_precision_is_enough_to_be_loaded() -> None:
    """A `LoadedModel` made without an explainer predicts."""
    loaded = LoadedModel(lambda x: x[:, :5], packaged_network().metadata)

    assert loaded.explainer is None
    assert loaded.infer(torch.rand(2, 11).numpy()).shape == (2, 5)
