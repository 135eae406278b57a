"""Request ids, trace context and spans: made where due, handed on only where they are sound.

What a caller sends here ends in headers, gRPC metadata and log lines of two servers, and shares a
batch with other callers' requests. So only what each of those can carry is taken over.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from nimbusguard.telemetry.spans import Kind, Span, Tracer
from serving.calls import Call, ModelService, Trace

_REQUEST_ID: Final = re.compile(rb"[!-~](?:[ -~]{0,126}[!-~])?")
"""Printable ASCII, at most 128 characters."""
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{1,64})?"
)
"""Source: W3C Trace Context, "traceparent Header"; a later version may have more parts."""
_TRACESTATE: Final = re.compile(rb"[ -~]{1,512}")
"""Source: as above, "tracestate Header"; 512 characters are what everybody has to hand on."""


class RequestIds:
    """Gives every request an id."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = count(1)

    def next(self) -> bytes:
        """A unique id: random prefix and a counter, a tenth of the cost of a UUID."""
        return b"%b-%x" % (self._prefix, next(self._numbers))

    def of(self, given: bytes | None) -> bytes:
        """The caller's id, or one of ours where that is missing or cannot be handed on."""
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return self.next()


def trace_of(request_id: bytes, traceparent: bytes | None, tracestate: bytes | None) -> Trace:
    """What travels with a request; a malformed trace context is dropped, as the standard says."""
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return Trace(request_id)
    if tracestate is not None and not _TRACESTATE.fullmatch(tracestate):
        tracestate = None
    return Trace(request_id, traceparent, tracestate)


def trace_id_of(traceparent: bytes) -> str:
    """The trace's 32 hexadecimal digits, as log lines name it."""
    return traceparent[3:35].decode("ascii")


def begin(tracer: Tracer | None, name: str, trace: Trace, service: ModelService[Any, Any]) -> Trace:
    """The same with a span of ours in it, if there is a tracer and it samples the request.

    Args:
        tracer: Records; None where nothing is traced.
        name: The route.
        trace: What came with the request.
        service: Knows the model version that answers; asked for sampled requests alone.
    """
    if tracer is None or not tracer.samples(trace.traceparent):
        return trace
    return begin_sampled(tracer, name, trace, service)


def begin_sampled(
    tracer: Tracer, name: str, trace: Trace, service: ModelService[Any, Any]
) -> Trace:
    """As `begin`, of a request that is known to be sampled."""
    parent = None if trace.traceparent is None else (trace.traceparent, trace.tracestate)
    about = {"nimbusguard.request_id": trace.request_id.decode("latin-1")}
    if service.version:
        about["nimbusguard.model_version"] = service.version
    span = tracer.start(name, Kind.SERVER, parent, attributes=about)
    return Trace(trace.request_id, span.traceparent, span.tracestate, span)


def begin_batch(tracer: Tracer | None, calls: Sequence[Call[Any, Any]], rows: int) -> Span | None:
    """The span of a batch with sampled requests in it: a child of the first, linked with others.

    The work is done once for all of them, and a span has one parent; so each of the others points
    to the batch, and the batch to each of them.
    """
    if tracer is None:
        return None
    spans = [call.trace.span for call in calls if call.trace.span is not None]
    if not spans:
        return None
    first, *others = spans
    about = {"nimbusguard.batch.requests": len(calls), "nimbusguard.batch.rows": rows}
    span = tracer.start("batch", Kind.INTERNAL, first, links=others, attributes=about)
    for other in others:
        other.link(span)
    return span


def begin_explanation(tracer: Tracer | None, kind: Kind, trace: Trace) -> Span | None:
    """The span of one explanation below its request, if that is sampled."""
    if tracer is None or trace.span is None:
        return None
    return tracer.start("explain", kind, trace.span)
