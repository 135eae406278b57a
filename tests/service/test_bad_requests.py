"""Bad requests, over every protocol, against both services: a fitting error, and life goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest

from tests.service.bad_requests import (
    INFER,
    PREDICT,
    GrpcCase,
    HttpCase,
    good,
    good_message,
    grpc_cases,
    http_cases,
)
from tests.service.processes import Server
from tests.service.wire import Answer, Wire

pytestmark = pytest.mark.service

HTTP_CASES = list(http_cases())
GRPC_CASES = list(grpc_cases())
_SERVICE = "inference.GRPCInferenceService"


def _ids(case: HttpCase | GrpcCase) -> str:
    return f"{case.service}: {case.name}"


@pytest.fixture(scope="module")
def connections() -> Iterator[dict[str, Wire]]:
    """One connection a service, kept through all bad requests as long as HTTP itself is intact."""
    wires: dict[str, Wire] = {}
    yield wires
    for wire in wires.values():
        wire.close()


@pytest.fixture(scope="module")
def channels() -> Iterator[dict[str, grpc.Channel]]:
    opened: dict[str, grpc.Channel] = {}
    yield opened
    for channel in opened.values():
        channel.close()


def test_there_are_enough_bad_requests() -> None:
    """Every error of the design's table, for both services and each protocol."""
    statuses = {case.status for case in HTTP_CASES}
    codes = {case.code for case in GRPC_CASES}

    assert len(HTTP_CASES) + len(GRPC_CASES) >= 600
    assert statuses == {400, 404, 405, 413, 503}
    assert codes == {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}


@pytest.mark.parametrize("case", HTTP_CASES, ids=_ids)
def test_a_bad_request_is_refused_and_the_next_good_one_answered(
    case: HttpCase,
    connections: dict[str, Wire],
    predictor: Server,
    transformer: Server,
) -> None:
    """Status and message are those of the file; the connection survives if HTTP is intact."""
    server = predictor if case.service == "predictor" else transformer
    wire = connections.pop(case.service, None) or Wire(server.http_port)

    try:
        wire.send(case.data)
        answer = wire.read(has_body=case.method != "HEAD")
        _expect(case, answer)
        if case.closes:
            assert wire.is_closed()
            wire.close()
            wire = Wire(server.http_port)
        _expect_good_answers(wire, case.service)
    except BaseException:
        wire.close()
        raise
    connections[case.service] = wire


@pytest.mark.parametrize("case", GRPC_CASES, ids=_ids)
def test_a_bad_message_is_refused_and_the_next_good_one_answered(
    case: GrpcCase,
    channels: dict[str, grpc.Channel],
    predictor: Server,
    transformer: Server,
) -> None:
    """Code and message are those of the file, on one channel for all of them."""
    server = predictor if case.service == "predictor" else transformer
    if case.service not in channels:
        options = (("grpc.max_send_message_length", -1),)
        channels[case.service] = grpc.insecure_channel(server.grpc_target, options)
    channel = channels[case.service]

    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{_SERVICE}/{case.method}")(case.data, timeout=20)

    assert caught.value.code().name == case.code
    assert case.message in caught.value.details()
    assert len(caught.value.details()) < 1000
    infer = channel.unary_unary(f"/{_SERVICE}/ModelInfer")
    assert infer(good_message(case.service), timeout=20)


def _expect_good_answers(wire: Wire, service: str) -> None:
    is_predictor = service == "predictor"
    body = good("v1/states" if is_predictor else "v1/named")
    answer = wire.ask("POST", PREDICT, json.dumps(body).encode())
    assert answer.status == 200
    assert len(answer.json()["predictions"]) == 1
    body = good("v2/state" if is_predictor else "v2/raw-metrics")
    answer = wire.ask("POST", INFER, json.dumps(body).encode())
    assert answer.status == 200
    assert answer.json()["id"] == "17"


def _expect(case: HttpCase, answer: Answer) -> None:
    assert answer.status == case.status
    assert answer.headers.get("allow") == case.allow
    assert ("retry-after" in answer.headers) == (case.status == 503)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    if case.method != "HEAD":
        assert case.message in answer.error
        assert len(answer.error) < 1000
    assert (answer.headers.get("connection") == "close") == case.closes
