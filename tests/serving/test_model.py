"""The SDK's own data plane gets the same answers from our models as our fronts give."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from kserve.errors import InferenceError, InvalidInput, ModelNotReady

from model_store.probe import probe_states
from nimbusguard.contract.errors import NonFiniteOutput
from nimbusguard.contract.fingerprint import FINGERPRINT
from serving.model import ServedModel
from tests.service.reference import VERSION, Asked, best_action, expected, torch_q_values
from tests.serving.in_process import (
    MODEL,
    ROW,
    STATE,
    DirectClient,
    packaged_network,
    predictor_service,
    transformer_service,
)
from tests.serving.sdk import REQUEST_ID, data_plane, request_of


@pytest.mark.parametrize("rows", [1, 3, 1000])
async def test_the_predictor_answers_the_data_plane_as_torch_does(rows: int) -> None:
    """V1 and V2, within 1e-6."""
    plane = data_plane(predictor_service())
    states = probe_states(rows, seed=rows)
    wanted = torch_q_values(states)

    v1, _ = await plane.infer(MODEL, {"instances": states.tolist()})
    v2, _ = await plane.infer(MODEL, request_of("state", states, "FP32"))

    assert np.abs(np.array(v1["predictions"]) - wanted).max() <= 1e-6
    (output,) = v2.outputs
    assert np.abs(output.as_numpy() - wanted).max() <= 1e-6
    assert (v2.id, v2.model_version) == (REQUEST_ID, VERSION)
    assert v2.parameters["fingerprint"].string_param == FINGERPRINT


async def test_the_transformer_answers_the_data_plane_as_the_rules_do() -> None:
    """V1 and V2 give the decision that torch and the rules give."""
    plane = data_plane(transformer_service(DirectClient(packaged_network().infer)))
    want = expected(Asked(tuple(ROW)))
    wanted = torch_q_values(np.array([want.state], dtype=np.float32))

    v1, _ = await plane.infer(MODEL, {"instances": [ROW]})
    v2, _ = await plane.infer(MODEL, request_of("raw_metrics", np.array([ROW]), "FP64"))

    (decision,) = v1["predictions"]
    by_name = {output.name: output for output in v2.outputs}
    assert np.abs(np.array([decision["q_values"]]) - wanted).max() <= 1e-6
    assert np.abs(by_name["q_values"].as_numpy() - wanted).max() <= 1e-6
    assert decision["action"] == best_action(wanted[0].tolist(), want.allowed)
    assert by_name["action_index"].as_numpy().tolist() == [decision["action_index"]]
    assert by_name["target_replicas"].as_numpy().tolist() == [decision["target_replicas"]]


async def test_metadata_and_readiness_are_the_models_own() -> None:
    """What the data plane shows of a model comes from the service's tables."""
    plane = data_plane(predictor_service())

    metadata = await plane.model_metadata(MODEL)

    assert await plane.model_ready(MODEL)
    assert metadata["inputs"] == [{"name": "state", "datatype": "FP32", "shape": [-1, 11]}]
    assert metadata["outputs"] == [{"name": "q_values", "datatype": "FP32", "shape": [-1, 5]}]


async def test_a_transformer_without_its_predictor_is_not_ready() -> None:
    """The probe has never succeeded."""
    model = ServedModel(transformer_service(DirectClient(packaged_network().infer)))
    model.load()

    assert not await model.healthy()


@pytest.mark.parametrize(
    "body", [{}, {"instances": []}, {"instances": [[0.5]]}, {"instances": [[2] * 11]}]
)
async def test_a_bad_body_is_invalid_input(body: dict[str, Any]) -> None:
    """The SDK's name for 400, with our message."""
    plane = data_plane(predictor_service())

    with pytest.raises(InvalidInput, match="expected"):
        await plane.infer(MODEL, body)


async def test_a_bad_tensor_is_invalid_input() -> None:
    """Of another shape than the metadata says."""
    plane = data_plane(predictor_service())

    with pytest.raises(InvalidInput, match=r"shape: expected \[-1, 11\], got \[1, 3\]"):
        await plane.infer(MODEL, request_of("state", np.ones((1, 3), np.float32), "FP32"))


async def test_a_full_queue_is_not_ready_and_nan_an_inference_error() -> None:
    """The SDK knows no better names."""

    def broken(_: np.ndarray) -> np.ndarray:
        raise NonFiniteOutput("the network returned NaN or infinity")

    plane = data_plane(transformer_service(DirectClient(broken)))
    with pytest.raises(InferenceError, match="NaN or infinity"):
        await plane.infer(MODEL, {"instances": [ROW]})

    full = predictor_service(max_waiting=1)
    model = ServedModel(full)
    first = model.predict({"instances": [STATE]})
    second = model.predict({"instances": [STATE]})
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [dict, ModelNotReady]
