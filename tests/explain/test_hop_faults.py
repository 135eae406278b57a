"""Explanations over the hop: whatever the predictor answers, the caller gets one of our errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from nimbusguard.contract.errors import (
    DeadlineExceeded,
    IncompatibleModel,
    InvalidRequest,
    NimbusGuardError,
    NotFound,
    PredictorUnavailable,
)
from serving.calls import Trace
from tests.service.stand_in import (
    Asked,
    Reply,
    StandIn,
    grpc_answer,
    grpc_stand_in,
    rest_stand_in,
    tensors,
)
from transformer.hop import PredictorClient
from transformer.hop_grpc import GrpcPredictorClient
from transformer.hop_rest import RestPredictorClient

STATE = np.full((2, 11), 0.5, dtype=np.float32)

Fault = tuple[Callable[[Asked], Any], type[NimbusGuardError], str]
REST: dict[str, Fault] = {
    "a predictor that explains nothing": (
        lambda asked: tensors(asked.rows),
        PredictorUnavailable,
        r"expected baseline_q_values FP32 of shape \[2, 5\], got none",
    ),
    "no document": (lambda _: Reply(200, b"hello"), PredictorUnavailable, "expected a V2 answer"),
    "no outputs": (lambda _: Reply(200, b"{}"), PredictorUnavailable, "expected a V2 answer"),
    "a foreign fingerprint": (
        lambda asked: tensors(asked.rows, parameters={"fingerprint": "sha256:0"}),
        IncompatibleModel,
        "incompatible model",
    ),
    "a version without explanations": (
        lambda _: Reply(404, b'{"error": "explanation: version 7 has none"}'),
        NotFound,
        "version 7 has none",
    ),
    "a queue that is full": (
        lambda _: Reply(503, b'{"error": "overloaded"}'),
        PredictorUnavailable,
        "predictor answered 503: overloaded",
    ),
    "an unknown output": (
        lambda _: Reply(400, b'{"error": "outputs: expected names out of"}'),
        InvalidRequest,
        "outputs: expected",
    ),
}
GRPC: dict[str, Fault] = {
    "a predictor that explains nothing": (
        lambda asked: grpc_answer(asked.rows),
        PredictorUnavailable,
        "expected baseline_q_values",
    ),
    "a predictor of an older release": (
        lambda _: (grpc.StatusCode.INVALID_ARGUMENT, "outputs: expected names out of"),
        InvalidRequest,
        "outputs: expected",
    ),
    "too little binary data": (
        lambda asked: _without_data(asked.rows),
        PredictorUnavailable,
        "expected a V2 answer with",
    ),
}


def _without_data(rows: int) -> Any:
    answer = grpc_answer(rows)
    del answer.raw_output_contents[:]
    return answer


async def explain(client: PredictorClient, seconds: float = 10.0) -> Any:
    return await client.explain(STATE, [Trace(b"id")], time.perf_counter() + seconds)


async def assert_one_of_our_errors(
    client: PredictorClient, stand_in: StandIn, fault: Fault
) -> None:
    """The predictor has a fault, and whoever asks for an explanation gets the error of it."""
    stand_in.reply, kind, message = fault

    with pytest.raises(NimbusGuardError, match=message) as caught:
        await explain(client)
    await client.close()

    assert type(caught.value) is kind


@pytest.mark.parametrize("fault", REST)
async def test_a_fault_over_rest_is_one_of_our_errors(fault: str) -> None:
    """With what was expected."""
    with rest_stand_in() as stand_in:
        client = RestPredictorClient("127.0.0.1", stand_in.port, "nimbusguard-dqn")
        await assert_one_of_our_errors(client, stand_in, REST[fault])


@pytest.mark.parametrize("fault", GRPC)
async def test_a_fault_over_grpc_is_one_of_our_errors(fault: str) -> None:
    """The same errors as over REST."""
    with grpc_stand_in() as stand_in:
        client = GrpcPredictorClient("127.0.0.1", stand_in.port, "nimbusguard-dqn")
        await assert_one_of_our_errors(client, stand_in, GRPC[fault])


async def test_an_explanation_that_takes_too_long_meets_its_deadline() -> None:
    """The caller is told in time, whatever the predictor still computes."""
    with rest_stand_in() as stand_in:
        stand_in.reply = lambda asked: asked.gone.wait(20) and Reply(200, b"")
        client = RestPredictorClient("127.0.0.1", stand_in.port, "nimbusguard-dqn")
        with pytest.raises(DeadlineExceeded, match="no answer within the deadline"):
            await explain(client, seconds=0.1)
        await client.close()
