"""Which request ids and trace contexts go on, and which requests the REST front samples."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.telemetry.otel import OtelSpan, OtelTracer
from serving.app import RestApp
from serving.calls import Trace
from serving.http_message import HttpRequest
from serving.metrics import ServingMetrics
from serving.tracing import RequestIds, trace_of
from tests.serving.in_process import MODEL, STATE, predictor_service

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Caller:
    """A connection that waits for one answer, and an exporter that keeps what it takes."""

    is_closed = False

    def __init__(self, ratio: float) -> None:
        self.spans: list[OtelSpan] = []
        self._status = asyncio.get_running_loop().create_future()
        exporter: Any = self
        tracer = OtelTracer(exporter, ratio, np.random.default_rng(7))
        self._app = RestApp(predictor_service(), ServingMetrics("predictor", MODEL), tracer)

    def take(self, span: OtelSpan) -> None:
        self.spans.append(span)

    def answer(self, request: HttpRequest, status: int, *_: object) -> None:
        self._app.observe(request, status)
        self._status.set_result(status)

    async def ask(self, **headers: bytes) -> int:
        request = HttpRequest(self, b"POST", f"/v1/models/{MODEL}:predict".encode())
        request.request_id = b"7"
        request.headers = {name.encode(): value for name, value in headers.items()}
        request.body = orjson.dumps({"instances": [STATE]})
        self._app.handle(request)
        status: int = await self._status
        return status


def test_every_id_of_ours_is_new() -> None:
    """In a process and, by their random part, among processes."""
    one, other = RequestIds(), RequestIds()

    assert len({one.next() for _ in range(1000)} | {other.next() for _ in range(1000)}) == 2000


@given(given_id=st.binary(max_size=200))
def test_what_goes_on_is_printable_and_short(given_id: bytes) -> None:
    """The caller's own id, or one of ours."""
    request_id = RequestIds().of(given_id)

    assert 0 < len(request_id) <= 128
    assert all(0x20 <= byte <= 0x7E for byte in request_id)


@pytest.mark.parametrize("given_id", [b"7", b"a b", b"x" * 128, b"00-ab,cd=ef;~!"])
def test_a_sound_id_goes_on_as_it_is(given_id: bytes) -> None:
    """So that the caller finds its request again."""
    assert RequestIds().of(given_id) == given_id


def test_a_sound_trace_context_goes_on_as_it_is() -> None:
    """With its state, or without."""
    assert trace_of(b"7", PARENT, b"k=v,o=1") == Trace(b"7", PARENT, b"k=v,o=1")
    assert trace_of(b"7", PARENT, None) == Trace(b"7", PARENT)
    assert trace_of(b"7", b"01" + PARENT[2:] + b"-extra", None)[1] is not None


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"hello",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"\xff",
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + PARENT[52:],
    ],
)
def test_a_malformed_trace_context_is_dropped(parent: bytes) -> None:
    """State and all, as W3C Trace Context says."""
    assert trace_of(b"7", parent, b"k=v") == Trace(b"7")


@pytest.mark.parametrize("state", [b"", b"\xff", b"a\tb", b"x" * 513])
def test_a_state_that_cannot_be_handed_on_is_dropped(state: bytes) -> None:
    """The parent goes on without it."""
    assert trace_of(b"7", PARENT, state) == Trace(b"7", PARENT)


def test_a_state_without_a_parent_means_nothing() -> None:
    """It says nothing by itself."""
    assert trace_of(b"7", None, b"k=v") == Trace(b"7")


@pytest.mark.parametrize(
    ("ratio", "headers", "sampled"),
    [
        (1.0, {}, True),
        (0.0, {}, False),
        (0.0, {"traceparent": PARENT}, True),
        (1.0, {"traceparent": PARENT[:-1] + b"0"}, False),
        (1.0, {"traceparent": b"hello"}, True),
        (0.0, {"traceparent": b"hello"}, False),
    ],
)
async def test_a_request_is_sampled_as_its_caller_says_or_by_chance(
    ratio: float, headers: dict[str, bytes], sampled: bool
) -> None:
    """By chance where the caller says nothing, or nothing sound."""
    caller = Caller(ratio)

    assert await caller.ask(**headers) == 200
    assert [span.name for span in caller.spans] == ["v1_predict"] * sampled
