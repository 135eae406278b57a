"""The hop to the predictor: whatever is at its other end, the caller gets one of our errors."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from nimbusguard.contract.errors import (
    DeadlineExceeded,
    IncompatibleModel,
    InvalidRequest,
    NimbusGuardError,
    NonFiniteOutput,
    NotFound,
    PredictorUnavailable,
)
from nimbusguard.contract.fingerprint import FINGERPRINT
from serving.calls import Trace
from tests.service.stand_in import (
    Q_VALUES,
    Asked,
    Reply,
    StandIn,
    binary_tensors,
    grpc_answer,
    grpc_stand_in,
    rest_stand_in,
    tensors,
)
from transformer.hop import PredictorClient
from transformer.hop_grpc import GrpcPredictorClient
from transformer.hop_rest import RestPredictorClient

MODEL = "nimbusguard-dqn"
STATE = np.full((2, 11), 0.5, dtype=np.float32)
TRACE = (Trace(b"id-1"),)
DEADLINE_S = 10.0
NAN_TAIL = struct.pack("<10f", *[0.0] * 9, float("nan"))


@pytest.fixture(scope="module")
def rest() -> Iterator[StandIn]:
    with rest_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def grpc_end() -> Iterator[StandIn]:
    with grpc_stand_in() as stand_in:
        yield stand_in


@pytest.fixture
async def rest_client(rest: StandIn) -> AsyncIterator[RestPredictorClient]:
    rest.reset()
    client = RestPredictorClient("127.0.0.1", rest.port, MODEL)
    yield client
    await client.close()


@pytest.fixture
async def grpc_client(grpc_end: StandIn) -> AsyncIterator[GrpcPredictorClient]:
    grpc_end.reset()
    client = GrpcPredictorClient("127.0.0.1", grpc_end.port, MODEL)
    yield client
    await client.close()


async def ask(client: PredictorClient, deadline_s: float = DEADLINE_S) -> Any:
    return await client.infer(STATE, TRACE, time.perf_counter() + deadline_s)


def json_reply(document: bytes, status: int = 200) -> Callable[[Asked], Reply]:
    return lambda _: Reply(status, document)


async def test_a_good_answer_over_rest_is_understood(
    rest: StandIn, rest_client: RestPredictorClient
) -> None:
    """As JSON, and as the bytes that are asked for."""
    for reply in (
        lambda asked: tensors(asked.rows),
        lambda asked: binary_tensors(asked.rows, struct.pack("<10f", *Q_VALUES * 2)),
    ):
        rest.reply = reply
        answer = await ask(rest_client)
        assert answer.q_values == pytest.approx(np.array([Q_VALUES] * 2))
        assert (answer.model_version, answer.fingerprint) == ("7", FINGERPRINT)


async def test_a_good_answer_over_grpc_is_understood(grpc_client: GrpcPredictorClient) -> None:
    """Raw contents come back for raw contents."""
    answer = await ask(grpc_client)

    assert answer.q_values == pytest.approx(np.array([Q_VALUES] * 2))
    assert (answer.model_version, answer.fingerprint) == ("7", FINGERPRINT)


REST_FAULTS: dict[str, tuple[Callable[[Asked], Reply], type[NimbusGuardError], str]] = {
    "a refusal": (
        json_reply(b'{"error": "instance 0: no"}', 400),
        InvalidRequest,
        "predictor answered 400: instance 0: no",
    ),
    "an unknown model": (
        json_reply(b'{"error": "model: no"}', 404),
        NotFound,
        "predictor answered 404: model: no",
    ),
    "a network without a number": (
        json_reply(b'{"error": "the network returned NaN or infinity"}', 500),
        NonFiniteOutput,
        "NaN or infinity",
    ),
    "any other 500": (json_reply(b'{"error": "boom"}', 500), PredictorUnavailable, "boom"),
    "a busy predictor": (json_reply(b'{"error": "full"}', 503), PredictorUnavailable, "full"),
    "a gateway's timeout": (json_reply(b"<html>", 504), PredictorUnavailable, "504"),
    "a redirection": (json_reply(b"", 302), PredictorUnavailable, "predictor answered 302"),
    "another success": (json_reply(b"{}", 202), PredictorUnavailable, "predictor answered 202"),
    "a body of no JSON": (json_reply(b"<html>hello"), PredictorUnavailable, "<html>hello"),
    "an empty body": (json_reply(b""), PredictorUnavailable, "expected a V2 answer"),
    "another JSON": (json_reply(b"[1, 2]"), PredictorUnavailable, "expected a V2 answer"),
    "null": (json_reply(b"null"), PredictorUnavailable, "expected a V2 answer"),
    "no outputs": (json_reply(b"{}"), PredictorUnavailable, "expected a V2 answer"),
    "V1 predictions": (
        json_reply(b'{"predictions": [[1, 2, 3, 4, 5]]}'),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "outputs of other names": (
        lambda asked: tensors(asked.rows, output={"name": "probabilities"}),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "another amount of data than the shape says": (
        lambda asked: tensors(asked.rows, output={"data": [0.0] * 9}),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "too few rows": (
        lambda asked: tensors(asked.rows - 1),
        PredictorUnavailable,
        r"expected q_values FP32 of shape \[2, 5\], got 'FP32' of shape \[1, 5\]",
    ),
    "too many rows": (
        lambda asked: tensors(asked.rows + 1),
        PredictorUnavailable,
        r"of shape \[3, 5\]",
    ),
    "a shape of another network": (
        lambda asked: tensors(asked.rows, output={"shape": [2, 6]}),
        PredictorUnavailable,
        r"got 'FP32' of shape \[2, 6\]",
    ),
    "a shape beyond any number": (
        json_reply(tensors(2).body.replace(b"[2, 5]", b"[1e300, 5]")),
        PredictorUnavailable,
        "got 'FP32' of shape",
    ),
    "a shape without a number": (
        lambda asked: tensors(asked.rows, output={"shape": [-1, 5]}),
        PredictorUnavailable,
        r"got 'FP32' of shape \[-1, 5\]",
    ),
    "another datatype": (
        lambda asked: binary_tensors(asked.rows, b"\x00" * 40, datatype="INT32"),
        PredictorUnavailable,
        r"got 'INT32' of shape \[2, 5\]",
    ),
    "fewer bytes than the shape": (
        lambda asked: binary_tensors(asked.rows, b"\x00" * 36),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "half a number": (
        lambda asked: binary_tensors(asked.rows, b"\x00" * 39),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "a header length of thousands of digits": (
        lambda asked: binary_tensors(asked.rows, b"\x00" * 40)._replace(
            headers={"Inference-Header-Content-Length": "1" * 5000}
        ),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "words for numbers": (
        lambda asked: tensors(asked.rows, output={"data": ["high"] * 10}),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "null for a number": (
        lambda asked: tensors(asked.rows, output={"data": [None] * 10}),
        NonFiniteOutput,
        "NaN or infinity",
    ),
    "NaN in binary": (
        lambda asked: binary_tensors(asked.rows, NAN_TAIL),
        NonFiniteOutput,
        "NaN or infinity",
    ),
    "a number beyond single precision": (
        lambda asked: tensors(asked.rows, output={"data": [1e300] * 10}),
        NonFiniteOutput,
        "NaN or infinity",
    ),
    "no parameters": (
        lambda asked: tensors(asked.rows, parameters=None),
        IncompatibleModel,
        "incompatible model: expected fingerprint sha256:",
    ),
    "parameters that are none": (
        lambda asked: tensors(asked.rows, parameters=[1]),
        PredictorUnavailable,
        "expected a V2 answer",
    ),
    "a foreign fingerprint": (
        lambda asked: tensors(asked.rows, parameters={"fingerprint": "sha256:0"}),
        IncompatibleModel,
        "the predictor answered with 'sha256:0'",
    ),
    "a fingerprint of great length": (
        lambda asked: tensors(asked.rows, parameters={"fingerprint": "x" * 100_000}),
        IncompatibleModel,
        "incompatible model",
    ),
    "no version": (
        lambda asked: tensors(asked.rows, model_version=None),
        PredictorUnavailable,
        "expected a model_version",
    ),
    "bytes of no HTTP": (
        lambda _: Reply(0, b"hello, this is SMTP\r\n"),
        PredictorUnavailable,
        "not an HTTP response",
    ),
    "nothing at all": (lambda _: Reply(0, b""), PredictorUnavailable, "closed by the predictor"),
    "half an answer": (
        lambda _: Reply(0, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"),
        PredictorUnavailable,
        "closed by the predictor",
    ),
}


@pytest.mark.parametrize("fault", REST_FAULTS)
async def test_a_fault_over_rest_is_one_of_our_errors(
    fault: str, rest: StandIn, rest_client: RestPredictorClient
) -> None:
    """And the next exchange of the same client succeeds."""
    reply, kind, message = REST_FAULTS[fault]
    rest.reply = reply

    with pytest.raises(NimbusGuardError, match=message) as caught:
        await ask(rest_client)

    assert type(caught.value) is kind
    assert len(str(caught.value)) < 1000
    rest.reply = None
    assert (await ask(rest_client)).model_version == "7"


def changed(**fields: Any) -> Callable[[Asked], Any]:
    """A good gRPC answer with some of the tensor's fields, or its contents, replaced."""

    def reply(asked: Asked) -> Any:
        answer = grpc_answer(asked.rows)
        for name, value in fields.items():
            if name == "raw":
                del answer.raw_output_contents[:]
                answer.raw_output_contents.extend(value)
            elif name == "shape":
                del answer.outputs[0].shape[:]
                answer.outputs[0].shape.extend(value)
            elif name == "fingerprint":
                answer.parameters["fingerprint"].string_param = value
            elif name == "version":
                answer.model_version = value
            else:
                setattr(answer.outputs[0], name, value)
        return answer

    return reply


GRPC_FAULTS: dict[str, tuple[Callable[[Asked], Any], type[NimbusGuardError], str]] = {
    "a refusal": (
        lambda _: (grpc.StatusCode.INVALID_ARGUMENT, "instance 0: no"),
        InvalidRequest,
        "INVALID_ARGUMENT: instance 0: no",
    ),
    "an unknown model": (lambda _: (grpc.StatusCode.NOT_FOUND, "no"), NotFound, "NOT_FOUND: no"),
    "a network without a number": (
        lambda _: (grpc.StatusCode.INTERNAL, "the network returned NaN or infinity"),
        NonFiniteOutput,
        "NaN or infinity",
    ),
    "any other fault": (
        lambda _: (grpc.StatusCode.INTERNAL, "boom"),
        PredictorUnavailable,
        "INTERNAL: boom",
    ),
    "a server of something else": (
        lambda _: (grpc.StatusCode.UNIMPLEMENTED, "what"),
        PredictorUnavailable,
        "UNIMPLEMENTED",
    ),
    "a busy predictor": (
        lambda _: (grpc.StatusCode.UNAVAILABLE, "full"),
        PredictorUnavailable,
        "UNAVAILABLE: full",
    ),
    "outputs of other names": (changed(name="p"), PredictorUnavailable, "expected a V2 answer"),
    "another datatype": (changed(datatype="INT32"), PredictorUnavailable, "got 'INT32' of shape"),
    "another shape": (changed(shape=[1, 10]), PredictorUnavailable, r"of shape \[1, 10\]"),
    "a shape without a number": (
        changed(shape=[-1, 5]),
        PredictorUnavailable,
        r"of shape \[-1, 5\]",
    ),
    "no contents": (changed(raw=[]), PredictorUnavailable, "expected a V2 answer"),
    "half a number": (changed(raw=[b"\x00" * 39]), PredictorUnavailable, "expected a V2 answer"),
    "NaN": (changed(raw=[NAN_TAIL]), NonFiniteOutput, "NaN or infinity"),
    "no fingerprint": (changed(fingerprint=""), IncompatibleModel, "incompatible model"),
    "a foreign fingerprint": (
        changed(fingerprint="sha256:0"),
        IncompatibleModel,
        "the predictor answered with 'sha256:0'",
    ),
    "no version": (changed(version=""), PredictorUnavailable, "expected a model_version"),
}


@pytest.mark.parametrize("fault", GRPC_FAULTS)
async def test_a_fault_over_grpc_is_one_of_our_errors(
    fault: str, grpc_end: StandIn, grpc_client: GrpcPredictorClient
) -> None:
    """And the next call of the same client succeeds."""
    reply, kind, message = GRPC_FAULTS[fault]
    grpc_end.reply = reply

    with pytest.raises(NimbusGuardError, match=message) as caught:
        await ask(grpc_client)

    assert type(caught.value) is kind
    grpc_end.reply = None
    assert (await ask(grpc_client)).model_version == "7"


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_a_slow_predictor_ends_with_the_deadline(
    protocol: str,
    rest: StandIn,
    rest_client: RestPredictorClient,
    grpc_end: StandIn,
    grpc_client: GrpcPredictorClient,
) -> None:
    """Neither sooner nor much later, and the late answer meets no later request."""
    stand_in = rest if protocol == "rest" else grpc_end
    client: PredictorClient = rest_client if protocol == "rest" else grpc_client
    await ask(client)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait(asked: Asked) -> Any:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(DEADLINE_S)
        return tensors(asked.rows) if protocol == "rest" else grpc_answer(asked.rows)

    stand_in.reply = wait
    began = time.perf_counter()
    with pytest.raises(DeadlineExceeded, match="predictor at 127"):
        await ask(client, 0.3)
    took_s = time.perf_counter() - began
    stand_in.reply = None
    release.set()

    assert 0.25 <= took_s < 2.0
    assert (await ask(client)).model_version == "7"


@pytest.mark.parametrize("kind", [RestPredictorClient, GrpcPredictorClient])
async def test_nobody_there_is_unavailable_within_the_deadline(
    kind: Callable[[str, int, str], PredictorClient], unused_tcp_port: int
) -> None:
    """A closed port is found out long before the deadline."""
    client = kind("127.0.0.1", unused_tcp_port, MODEL)

    began = time.perf_counter()
    with pytest.raises(PredictorUnavailable, match=f"predictor at 127.0.0.1:{unused_tcp_port}"):
        await ask(client)

    assert time.perf_counter() - began < DEADLINE_S / 2
    await client.close()


async def test_a_connection_that_the_predictor_closed_is_replaced(
    rest: StandIn, rest_client: RestPredictorClient
) -> None:
    """One exchange after the other, although the predictor says close each time."""
    rest.reply = lambda asked: tensors(asked.rows)._replace(headers={"Connection": "close"})

    for _ in range(5):
        assert (await ask(rest_client)).model_version == "7"
    assert len(rest.asked) == 5


async def test_a_broken_exchange_is_tried_again(
    rest: StandIn, rest_client: RestPredictorClient
) -> None:
    """Twice broken off, answered at the third attempt; inference changes nothing, so it may be."""
    replies = iter([Reply(0, b""), Reply(0, b"")])
    rest.reply = lambda asked: next(replies, None) or tensors(asked.rows)

    assert (await ask(rest_client)).model_version == "7"
    assert len(rest.asked) == 3


TRACED = (
    Trace(b"a"),
    Trace(b"b", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"k=v"),
    Trace(b"c", b"00-11111111111111111111111111111111-2222222222222222-01"),
)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_request_ids_and_the_first_trace_travel_along(
    protocol: str,
    rest: StandIn,
    rest_client: RestPredictorClient,
    grpc_end: StandIn,
    grpc_client: GrpcPredictorClient,
) -> None:
    """One hop serves several requests: it names them all, and joins the first trace."""
    stand_in = rest if protocol == "rest" else grpc_end
    client: PredictorClient = rest_client if protocol == "rest" else grpc_client

    await client.infer(STATE, TRACED, time.perf_counter() + DEADLINE_S)

    headers = stand_in.asked[-1].headers
    assert headers["x-request-id"] == "a,b,c"
    assert headers["traceparent"] == (TRACED[1].traceparent or b"").decode()
    assert headers["tracestate"] == "k=v"


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_a_batch_of_many_long_ids_still_travels(
    protocol: str, rest_client: RestPredictorClient, grpc_client: GrpcPredictorClient
) -> None:
    """The metadata of gRPC may have 8 KiB in all; not every id of a large batch is named."""
    client: PredictorClient = rest_client if protocol == "rest" else grpc_client
    traces = [Trace(b"%0128d" % index) for index in range(512)]

    answer = await client.infer(STATE, traces, time.perf_counter() + DEADLINE_S)

    assert answer.model_version == "7"
