"""What a caller sees of a predictor's faults, and what the predictor sees of its callers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.service.bad_requests import INFER, PREDICT, good, good_message
from tests.service.processes import MODEL, Server, running
from tests.service.stand_in import (
    Asked,
    Reply,
    StandIn,
    binary_tensors,
    grpc_answer,
    grpc_stand_in,
    rest_stand_in,
    tensors,
)
from tests.service.wire import Wire

pytestmark = pytest.mark.service

DEADLINE_S = 0.5
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Pair(NamedTuple):
    """A stand-in and the real transformer before it."""

    stand_in: StandIn
    transformer: Server


def _pair(stand_in: StandIn, protocol: str, log: Any) -> Iterator[Pair]:
    flags = (f"--predictor_host=127.0.0.1:{stand_in.port}", f"--predictor_protocol={protocol}")
    environ = {"NIMBUSGUARD_DEADLINE_S": str(DEADLINE_S)}
    with running("transformer", log, *flags, environ=environ) as server:
        yield Pair(stand_in, server)
        assert server.complaints() == []


@pytest.fixture(scope="module")
def rest_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with rest_stand_in() as stand_in:
        yield from _pair(stand_in, "v2", tmp_path_factory.mktemp("rest-hop") / "log.jsonl")


@pytest.fixture(scope="module")
def grpc_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with grpc_stand_in() as stand_in:
        yield from _pair(stand_in, "grpc-v2", tmp_path_factory.mktemp("grpc-hop") / "log.jsonl")


@pytest.fixture(params=["rest_pair", "grpc_pair"], ids=["hop v2", "hop grpc-v2"])
def pair(request: pytest.FixtureRequest) -> Pair:
    fixture: Pair = request.getfixturevalue(request.param)
    fixture.stand_in.reset()
    return fixture


class Fault(NamedTuple):
    """A reply over each hop, and what the caller is told."""

    rest: Callable[[Asked], Reply]
    grpc: Callable[[Asked], Any]
    status: int
    code: str
    message: str


def _wait(asked: Asked) -> Any:
    asked.gone.wait(DEADLINE_S * 3)


def _slow_rest(asked: Asked) -> Reply:
    _wait(asked)
    return tensors(asked.rows)


def _slow_grpc(asked: Asked) -> Any:
    _wait(asked)
    return grpc_answer(asked.rows)


def _foreign_grpc(asked: Asked) -> Any:
    answer = grpc_answer(asked.rows)
    answer.parameters["fingerprint"].string_param = "sha256:other"
    return answer


def _reshaped_grpc(asked: Asked) -> Any:
    answer = grpc_answer(asked.rows)
    answer.outputs[0].shape[1] = 4
    return answer


def _nan_grpc(asked: Asked) -> Any:
    answer = grpc_answer(asked.rows)
    answer.raw_output_contents[0] = np.full((asked.rows, 5), np.nan, dtype="<f4").tobytes()
    return answer


def _empty_grpc(_: Asked) -> Any:
    return pb.ModelInferResponse()


def _nan_rest(asked: Asked) -> Reply:
    return binary_tensors(asked.rows, np.full((asked.rows, 5), np.nan, dtype="<f4").tobytes())


def _error(status: int, message: str) -> Callable[[Asked], Reply]:
    return lambda _: Reply(status, json.dumps({"error": message}).encode())


def _code(code: grpc.StatusCode, message: str) -> Callable[[Asked], Any]:
    return lambda _: (code, message)


FAULTS = {
    "refuses": Fault(
        _error(400, "instance 0: no"),
        _code(grpc.StatusCode.INVALID_ARGUMENT, "instance 0: no"),
        400,
        "INVALID_ARGUMENT",
        "instance 0: no",
    ),
    "does not know the model": Fault(
        _error(404, "model: no"),
        _code(grpc.StatusCode.NOT_FOUND, "model: no"),
        404,
        "NOT_FOUND",
        "model: no",
    ),
    "fails": Fault(
        _error(500, "boom"), _code(grpc.StatusCode.INTERNAL, "boom"), 503, "UNAVAILABLE", "boom"
    ),
    "is busy": Fault(
        _error(503, "overloaded"),
        _code(grpc.StatusCode.UNAVAILABLE, "overloaded"),
        503,
        "UNAVAILABLE",
        "overloaded",
    ),
    "says something else": Fault(
        lambda _: Reply(200, b"<html>"), _empty_grpc, 503, "UNAVAILABLE", "predictor"
    ),
    "answers in another shape": Fault(
        lambda asked: tensors(asked.rows, output={"shape": [asked.rows, 4]}),
        _reshaped_grpc,
        503,
        "UNAVAILABLE",
        "expected q_values FP32 of shape [1, 5]",
    ),
    "answers NaN": Fault(_nan_rest, _nan_grpc, 500, "INTERNAL", "NaN or infinity"),
    "says that its network gives NaN": Fault(
        _error(500, "the network returned NaN or infinity"),
        _code(grpc.StatusCode.INTERNAL, "the network returned NaN or infinity"),
        500,
        "INTERNAL",
        "NaN or infinity",
    ),
    "has a foreign fingerprint": Fault(
        lambda asked: tensors(asked.rows, parameters={"fingerprint": "sha256:other"}),
        _foreign_grpc,
        503,
        "UNAVAILABLE",
        "incompatible model",
    ),
    "is too slow": Fault(_slow_rest, _slow_grpc, 504, "DEADLINE_EXCEEDED", "predictor at 127"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_predictor_is_told_alike_in_every_protocol(fault: str, pair: Pair) -> None:
    """Status, code and message; `Retry-After` where a retry makes sense; then all is well again."""
    expected = FAULTS[fault]
    is_rest = pair.transformer.log_path.parent.name.startswith("rest")
    pair.stand_in.reply = expected.rest if is_rest else expected.grpc
    retry = "1" if expected.status == 503 else None

    with Wire(pair.transformer.http_port) as wire:
        for path, body in ((PREDICT, good("v1/named")), (INFER, good("v2/raw-metrics"))):
            began = time.perf_counter()
            answer = wire.ask("POST", path, json.dumps(body).encode())
            took_s = time.perf_counter() - began
            assert answer.status == expected.status
            assert expected.message in answer.error
            assert answer.headers.get("retry-after") == retry
            assert took_s < DEADLINE_S + 2.0
        if expected.code != "DEADLINE_EXCEEDED":
            error = _grpc_error(pair.transformer)
            assert error.code().name == expected.code
            assert expected.message in error.details()
            assert dict(error.trailing_metadata()).get("retry-after") == retry
        pair.stand_in.reply = None
        answer = wire.ask("POST", PREDICT, json.dumps(good("v1/named")).encode())
    assert answer.status == 200
    assert answer.json()["predictions"][0]["action"] == "SCALE_UP_1"
    assert answer.json()["predictions"][0]["model_version"] == "7"


def _grpc_error(server: Server) -> Any:
    with grpc.insecure_channel(server.grpc_target) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            infer(good_message("transformer"), timeout=20)
    return caught.value


def test_an_answer_without_a_number_is_counted(rest_pair: Pair) -> None:
    """It is the one 500 of the design, and an alert watches its counter."""
    rest_pair.stand_in.reset()
    rest_pair.stand_in.reply = _nan_rest

    with Wire(rest_pair.transformer.http_port) as wire:
        before = _non_finite(wire)
        wire.ask("POST", PREDICT, json.dumps(good("v1/named")).encode())
        assert _non_finite(wire) == before + 1


def _non_finite(wire: Wire) -> float:
    text = wire.ask("GET", "/metrics").body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith("nimbusguard_non_finite_out"))
    return float(line.rpartition(" ")[2])


def test_the_trace_of_a_rest_call_reaches_the_predictor(pair: Pair) -> None:
    """`x-request-id`, `traceparent` and `tracestate`, byte for byte."""
    headers = {"X-Request-Id": "order-17", "Traceparent": PARENT, "Tracestate": "k=v"}

    with Wire(pair.transformer.http_port) as wire:
        answer = wire.ask("POST", PREDICT, json.dumps(good("v1/named")).encode(), headers)

    assert answer.headers["x-request-id"] == "order-17"
    seen = pair.stand_in.asked[-1].headers
    assert (seen["x-request-id"], seen["traceparent"], seen["tracestate"]) == (
        "order-17",
        PARENT,
        "k=v",
    )


def test_the_trace_of_a_grpc_call_reaches_the_predictor(pair: Pair) -> None:
    """From metadata; the id comes back in the trailing metadata."""
    metadata = (("x-request-id", "order-18"), ("traceparent", PARENT))

    with grpc.insecure_channel(pair.transformer.grpc_target) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        _, call = infer.with_call(good_message("transformer"), timeout=20, metadata=metadata)

    assert dict(call.trailing_metadata())["x-request-id"] == "order-18"
    seen = pair.stand_in.asked[-1].headers
    assert (seen["x-request-id"], seen["traceparent"]) == ("order-18", PARENT)
    assert "tracestate" not in seen


def test_an_id_and_a_trace_that_cannot_travel_spoil_nothing(pair: Pair) -> None:
    """Bytes that gRPC metadata cannot carry are replaced or dropped at the door."""
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xff\xfe\r\nTraceparent: \xe9\r\n"
        "Tracestate: \xe9\r\nContent-Length: "
    )
    body = json.dumps(good("v1/named")).encode()

    with Wire(pair.transformer.http_port) as wire:
        wire.send(head.encode("latin-1") + b"%d\r\n\r\n" % len(body) + body)
        answer = wire.read()

    assert answer.status == 200
    assert answer.headers["x-request-id"].isascii()
    seen = pair.stand_in.asked[-1].headers
    assert seen["x-request-id"] == answer.headers["x-request-id"]
    assert "traceparent" not in seen


def test_without_a_predictor_the_transformer_lives_and_is_not_ready(
    tmp_path: Any, unused_tcp_port: int
) -> None:
    """503 with `Retry-After` for everything that needs one; liveness stays."""
    host = f"--predictor_host=127.0.0.1:{unused_tcp_port}"
    with (
        running("transformer", tmp_path / "log.jsonl", host, wait="") as server,
        Wire(server.http_port) as wire,
    ):
        assert wire.ask("GET", "/v2/health/live").status == 200
        assert wire.ask("GET", "/").status == 200
        for path in (f"/v1/models/{MODEL}", "/v2/health/ready", f"/v2/models/{MODEL}/ready"):
            answer = wire.ask("GET", path)
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert f"predictor at 127.0.0.1:{unused_tcp_port}" in answer.error
        answer = wire.ask("POST", PREDICT, json.dumps(good("v1/named")).encode())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert _grpc_error(server).code().name == "UNAVAILABLE"
        assert wire.ask("GET", f"/v2/models/{MODEL}").json()["versions"] == []
        assert server.complaints() == []
