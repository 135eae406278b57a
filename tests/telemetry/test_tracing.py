"""Settings of traces, sampling, and what happens to spans that nobody takes."""

from __future__ import annotations

import itertools
import sys
from queue import Queue
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service_pb
from opentelemetry.proto.trace.v1 import trace_pb2 as trace_pb

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.telemetry.otel import OtelSpan, OtelTracer
from nimbusguard.telemetry.otlp import Exporter
from nimbusguard.telemetry.settings import TracingSettings, tracing_settings
from nimbusguard.telemetry.spans import Kind
from nimbusguard.telemetry.tracing import open_tracer, tracing

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{ABOVE}-01".encode()


class Kept:
    """An exporter that keeps what it takes."""

    def __init__(self) -> None:
        self.spans: list[OtelSpan] = []

    def take(self, span: OtelSpan) -> None:
        self.spans.append(span)

    def close(self) -> None:
        """Nothing to close."""


def tracer(ratio: float = 1.0, kept: Any = None) -> OtelTracer:
    return OtelTracer(kept or Kept(), ratio, np.random.default_rng(7))


def test_without_an_endpoint_there_is_no_tracer() -> None:
    """Whatever the ratio says."""
    assert open_tracer(tracing_settings({"NIMBUSGUARD_TRACING_RATIO": "1"}), "predictor") is None
    with tracing({}, "predictor") as none:
        assert none is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENDPOINT", "collector:4317"),
        ("ENDPOINT", "ftp://collector"),
        ("ENDPOINT", "http://collector:port"),
        ("ENDPOINT", "http://collector:4317/v1/traces"),
        ("RATIO", "1.01"),
        ("RATIO", "-0.1"),
        ("RATIO", "nan"),
        ("RATIO", "half"),
    ],
)
def test_a_mistake_in_a_setting_is_named(name: str, value: str) -> None:
    """Key and value."""
    with pytest.raises(InvalidRequest, match=f"NIMBUSGUARD_TRACING_{name}: .*{value}"):
        tracing_settings({f"NIMBUSGUARD_TRACING_{name}": value})


def test_an_endpoint_without_the_extra_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    for name in [name for name in sys.modules if name.startswith("nimbusguard.telemetry.ot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1", None)

    with pytest.raises(InvalidRequest, match=r"nimbusguard\[tracing\]"):
        open_tracer(TracingSettings(endpoint="http://127.0.0.1:1"), "predictor")


def test_a_caller_decides_for_itself() -> None:
    """Whatever the ratio."""
    assert tracer(0.0).samples(SAMPLED)
    assert not tracer(1.0).samples(SAMPLED[:-1] + b"0")


@pytest.mark.parametrize("flags", range(256))
def test_the_lowest_flag_says_sampled(flags: int) -> None:
    """Whatever else is set (W3C Trace Context, "trace-flags")."""
    assert tracer(0.0).samples(SAMPLED[:-2] + b"%02x" % flags) == bool(flags & 1)


@pytest.mark.parametrize("ratio", [0.01, 0.2, 0.9])
def test_without_a_callers_word_the_ratio_decides(ratio: float) -> None:
    """Its share of two hundred thousand, within five standard deviations of runs of four."""
    requests = 200_000
    # Of a renewal process: each cycle is a geometric gap and a run.
    deviation = (ratio * (1 - ratio) * (4 - 3 * ratio) * requests) ** 0.5
    one = tracer(ratio)

    assert abs(sum(one.samples(None) for _ in range(requests)) - ratio * requests) < 5 * deviation


def test_never_and_always_are_just_that() -> None:
    """A ratio of 0 samples nothing, of 1 everything."""
    never, always = tracer(0.0), tracer(1.0)

    assert not any(never.samples(None) for _ in range(1000))
    assert all(always.samples(None) for _ in range(1000))
    assert all(always.by_chance() for _ in range(1000))


def test_sampled_requests_come_in_runs() -> None:
    """Four in a row, or a multiple where one run follows another; the last may be cut."""
    one = tracer(0.05)
    throws = itertools.groupby(one.by_chance() for _ in range(20_000))
    runs = [len(list(run)) for is_sampled, run in throws if is_sampled]

    assert len(runs) > 100
    assert {length % 4 for length in runs[:-1]} == {0}


def test_a_span_continues_its_callers_trace() -> None:
    """With the caller's span above it and its state."""
    kept = Kept()
    top = tracer(kept=kept).start("a", Kind.SERVER, (SAMPLED, b"k=v"), attributes={"rows": 3})
    top.end("broken")

    (span,) = kept.spans
    (message,) = trace_pb.ScopeSpans.FromString(span.encoded()).spans
    assert (message.trace_id.hex(), message.parent_span_id.hex()) == (TRACE, ABOVE)
    assert (message.trace_state, message.status.message) == ("k=v", "broken")
    assert (message.attributes[0].key, message.attributes[0].value.int_value) == ("rows", 3)
    assert top.traceparent == f"00-{TRACE}-{message.span_id.hex()}-01".encode()


def test_a_full_message_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,048 spans travel at once and together, whatever the period; the rest when it closes."""
    monkeypatch.setattr("nimbusguard.telemetry.otlp._PERIOD_S", 3600.0)
    exporter = Exporter("http://127.0.0.1:1", {"service.name": "s"})
    sent: Queue[bytes] = Queue()
    monkeypatch.setattr(exporter, "_send", lambda request, timeout: sent.put(request))
    one = tracer(kept=exporter)
    for _ in range(2048):
        one.start("a", Kind.INTERNAL, None).end()

    full = sent.get(timeout=10)
    one.start("b", Kind.INTERNAL, None).end()
    one.close()

    assert [len(names_in(request)) for request in (full, sent.get_nowait())] == [2048, 1]
    assert set(names_in(full)) == {"a"}


def names_in(request: bytes) -> list[str]:
    """Of the spans of one message."""
    read = service_pb.ExportTraceServiceRequest.FromString(request)
    return [
        span.name for each in read.resource_spans for one in each.scope_spans for span in one.spans
    ]


def test_a_collector_that_is_away_costs_nothing_but_spans(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says so once; closing does not wait for it."""
    exporter = Exporter("http://127.0.0.1:1", {"service.name": "s"})
    one = tracer(kept=exporter)
    for _ in range(2):
        one.start("a", Kind.INTERNAL, None).end()
        exporter._flush()
    one.close()

    said = [record.message for record in caplog.records if record.name.endswith("otlp")]
    assert said == ["traces not delivered"]
