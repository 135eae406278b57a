"""Spans recorded by OpenTelemetry and sent over OTLP/gRPC by a thread of its own.

Imported only where traces are asked for. Whether a request is sampled is decided here and not by
the SDK, so that an unsampled one costs a subtraction and no object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from nimbusguard import __version__
from nimbusguard.telemetry.spans import NOTHING, Kind, Span, Value

_KINDS: Final = {
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.INTERNAL: SpanKind.INTERNAL,
}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_EXPORT_TIMEOUT_S: Final = 2
_MAX_LINKS: Final = 128
"""The standard's default; a batch of more sampled requests names the first."""
_FLUSH_MS: Final = 2000


class OtelSpan:
    """A span of the SDK."""

    __slots__ = ("_span",)

    def __init__(self, span: SdkSpan) -> None:
        self._span = span

    @property
    def trace_id(self) -> str:
        """See `Span`."""
        return f"{self.context.trace_id:032x}"

    @property
    def context(self) -> SpanContext:
        """Its ids."""
        return self._span.get_span_context()

    @property
    def traceparent(self) -> bytes:
        """See `Span`."""
        context = self.context
        return b"00-%032x-%016x-01" % (context.trace_id, context.span_id)

    @property
    def tracestate(self) -> bytes | None:
        """See `Span`."""
        state = self.context.trace_state
        return state.to_header().encode() if state else None

    def set(self, name: str, value: Value) -> None:
        """See `Span`."""
        self._span.set_attribute(name, value)

    def link(self, other: Span) -> None:
        """See `Span`."""
        self._span.add_link(_context_of(other))

    def end(self, error: str | None = None) -> None:
        """See `Span`."""
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class OtelTracer:
    """Makes, samples and sends spans.

    Args:
        endpoint: OTLP over gRPC.
        ratio: Share of requests without a caller's word that are sampled.
        component: Who speaks.
    """

    def __init__(self, endpoint: str, ratio: float, component: str) -> None:
        resource = Resource.create(
            {"service.name": f"nimbusguard-{component}", "service.version": __version__}
        )
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            span_limits=SpanLimits(max_links=_MAX_LINKS),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("nimbusguard", __version__)
        self._ratio = ratio
        self._rng = np.random.default_rng()
        self._skip = self._gap()

    def samples(self, traceparent: bytes | None) -> bool:
        """See `Tracer`."""
        if traceparent is not None:
            return bool(int(traceparent[53:55], 16) & TraceFlags.SAMPLED)
        self._skip -= 1
        if self._skip > 0:
            return False
        self._skip = self._gap()
        return True

    def start(
        self,
        name: str,
        kind: Kind,
        parent: Span | tuple[bytes, bytes | None] | None,
        *,
        links: Sequence[Span] = (),
        attributes: Mapping[str, Value] = NOTHING,
    ) -> OtelSpan:
        """See `Tracer`."""
        context = None
        if parent is not None:
            above = _remote(*parent) if isinstance(parent, tuple) else _context_of(parent)
            context = set_span_in_context(NonRecordingSpan(above))
        span = self._tracer.start_span(
            name,
            context,
            _KINDS[kind],
            attributes,
            [Link(_context_of(other)) for other in links],
            record_exception=False,
        )
        if not isinstance(span, SdkSpan):
            message = f"expected a span that records, got {type(span).__name__}"
            raise TypeError(message)
        return OtelSpan(span)

    def close(self) -> None:
        """See `Tracer`."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()

    def _gap(self) -> float:
        """Requests up to and with the next sampled one: one draw instead of one a request."""
        return float(self._rng.geometric(self._ratio)) if self._ratio > 0.0 else math.inf


def _context_of(span: Span) -> SpanContext:
    if not isinstance(span, OtelSpan):
        message = f"expected a span of this tracer, got {type(span).__name__}"
        raise TypeError(message)
    return span.context


def _remote(traceparent: bytes, tracestate: bytes | None) -> SpanContext:
    """A caller's span, from a header that was checked before."""
    _, trace_id, span_id = traceparent.split(b"-")[:3]
    state = TraceState.from_header([tracestate.decode("latin-1")]) if tracestate else None
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, _SAMPLED, state)
