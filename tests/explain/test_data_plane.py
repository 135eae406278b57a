"""The SDK's own data plane gets explanations from our models, as from any other."""

from __future__ import annotations

import numpy as np
import pytest
from kserve.errors import InvalidInput

from nimbusguard.contract.tensors import TensorSpec
from serving.calls import OutputChoice
from tests.serving.in_process import (
    MODEL,
    ROW,
    STATE,
    DirectClient,
    packaged_network,
    predictor_service,
    transformer_service,
)
from tests.serving.sdk import data_plane, request_of


async def test_explain_through_the_data_plane() -> None:
    """V1 of both services."""
    client = DirectClient(packaged_network().infer)

    states, _ = await data_plane(predictor_service()).explain(MODEL, {"instances": [STATE]})
    rows, _ = await data_plane(transformer_service(client)).explain(MODEL, {"instances": [ROW]})

    assert np.array(states["explanations"][0]["attributions"]).shape == (5, 11)
    assert rows["explanations"][0]["action"] == rows["predictions"][0]["action"] == "SCALE_UP_2"


async def test_a_bad_body_is_the_sdks_invalid_input() -> None:
    """With our message."""
    with pytest.raises(InvalidInput, match="instance 0: cpu_utilization"):
        await data_plane(predictor_service()).explain(MODEL, {"instances": [[2.0, *STATE[1:]]]})


async def test_attributions_by_name_through_the_data_plane() -> None:
    """V2, as over our fronts."""
    request = request_of("state", np.array([STATE], np.float32), "FP32", "attributions")

    answer, _ = await data_plane(predictor_service()).infer(MODEL, request)

    (output,) = answer.outputs
    assert output.shape == [1, 5, 11]


def test_only_an_explanations_own_outputs_lead_to_it() -> None:
    """`q_values` alone, or nothing in particular, stay on the short way."""
    service = predictor_service()
    choice = OutputChoice(service)
    asked = [TensorSpec(name, (), ()) for name in ("q_values", "attributions", "reason")]

    assert choice.of([]) is service
    assert choice.of(asked[:1]) is service
    assert choice.of(asked[2:]) is service
    assert choice.of(asked[:2]) is service.explanation
