"""Spans as OpenTelemetry defines them, and the decision which requests have any.

Imported only where traces are asked for. The objects are ours, the wire is OTLP (`otlp.py`): with
the SDK's own spans and exporter traces of one request in a hundred took 21 % of the throughput of
single rows, with these and runs of four about 2 % (bench/results.md). Whether a request is sampled
is decided before any object is made, so an unsampled one costs the next element of a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from types import TracebackType
from typing import Final, Self

import numpy as np

from nimbusguard.telemetry.otlp import Exporter
from nimbusguard.telemetry.otlp_wire import SpanIds, link_field, span_field
from nimbusguard.telemetry.spans import NOTHING, Kind, Span, Value

_FLAGS_END: Final = 54
"""Of a traceparent: the second hexadecimal digit of the flags, whose lowest bit is `sampled`."""
_SAMPLED: Final = frozenset(b"13579bdf")
_IDS: Final = 2**64
_DRAWN: Final = 256
"""Random numbers that are drawn at once: one by one they were half the cost of a span."""
_RUN: Final = 4
"""Requests in a row that are sampled together. Those of one batch share five of six spans: one by
one, a hundredth of the requests made spans of a quarter of the batches, in runs of a twelfth."""
_MAX_LINKS: Final = 128
"""The standard's default; a batch of more sampled requests names the first."""


class OtelSpan:
    """One span, from its start to its export."""

    __slots__ = (
        "_attributes",
        "_end_ns",
        "_error",
        "_exporter",
        "_links",
        "_start_ns",
        "ids",
        "kind",
        "name",
        "tracestate",
    )

    def __init__(
        self,
        exporter: Exporter,
        name: str,
        kind: Kind,
        ids: SpanIds,
        tracestate: bytes | None,
        attributes: dict[str, Value],
    ) -> None:
        self._exporter = exporter
        self.name = name
        self.kind = kind
        self.ids = ids
        self.tracestate = tracestate
        self._attributes = attributes
        self._links: list[bytes] = []
        self._start_ns = time.time_ns()

    @property
    def trace_id(self) -> str:
        """See `Span`."""
        return self.ids.trace.hex()

    @property
    def traceparent(self) -> bytes:
        """See `Span`."""
        return b"00-%b-%b-01" % (self.ids.trace.hex().encode(), self.ids.own.hex().encode())

    def set(self, name: str, value: Value) -> None:
        """See `Span`."""
        self._attributes[name] = value

    def link(self, other: Span) -> None:
        """See `Span`."""
        if len(self._links) < _MAX_LINKS:
            ids = _own(other).ids
            self._links.append(link_field(ids.trace, ids.own))

    def end(self, error: str | None = None) -> None:
        """See `Span`."""
        self._error = error
        self._end_ns = time.time_ns()
        self._exporter.take(self)

    def encoded(self) -> bytes:
        """The ended span as the exporter sends it."""
        return span_field(
            self.ids,
            (self.name, self.kind),
            (self._start_ns, self._end_ns),
            tracestate=self.tracestate,
            attributes=self._attributes,
            links=self._links,
            error=self._error,
        )

    def __enter__(self) -> Self:
        """See `Span`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See `Span`."""
        self.end(None if error is None else f"{type(error).__name__}: {error}")


class OtelTracer:
    """Makes and samples spans.

    Args:
        exporter: Sends them.
        ratio: Share of requests without a caller's word that are sampled.
        rng: Chance and ids.
    """

    def __init__(self, exporter: Exporter, ratio: float, rng: np.random.Generator) -> None:
        self._exporter = exporter
        self.by_chance: Callable[[], bool] = chain.from_iterable(_throws(ratio, rng)).__next__
        self._traces = _trace_ids(rng)
        self._last_id = int.from_bytes(rng.bytes(8), "big")

    def samples(self, traceparent: bytes | None) -> bool:
        """See `Tracer`."""
        if traceparent is not None:
            return traceparent[_FLAGS_END] in _SAMPLED
        return self.by_chance()

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
        # Unique within a trace is all that a span's id has to be: a random start, and a count.
        self._last_id = (self._last_id + 1) % _IDS
        own, state = self._last_id.to_bytes(8, "big"), None
        if parent is None:
            ids = SpanIds(next(self._traces), b"", own)
        elif isinstance(parent, tuple):
            traceparent, state = parent
            _, trace, above = traceparent.split(b"-")[:3]
            ids = SpanIds(bytes.fromhex(trace.decode()), bytes.fromhex(above.decode()), own)
        else:
            span = _own(parent)
            ids, state = SpanIds(span.ids.trace, span.ids.own, own), span.tracestate
        span = OtelSpan(self._exporter, name, kind, ids, state, dict(attributes))
        for other in links[:_MAX_LINKS]:
            span.link(other)
        return span

    def close(self) -> None:
        """See `Tracer`."""
        self._exporter.close()


def _throws(ratio: float, rng: np.random.Generator) -> Iterator[Iterable[bool]]:
    """Whether each request is sampled: runs of no, and of yes, so that a no is 30 ns.

    A yes is a run of four, so after one the next begins with a chance of r / (4 - 3 r): of many
    requests the share r is sampled.
    """
    while ratio > 0.0:
        for requests in rng.geometric(ratio / (_RUN - (_RUN - 1) * ratio), _DRAWN).tolist():
            yield repeat(False, requests - 1)
            yield repeat(True, _RUN)
    yield repeat(False)


def _trace_ids(rng: np.random.Generator) -> Iterator[bytes]:
    while True:
        drawn = rng.bytes(16 * _DRAWN)
        yield from (drawn[start : start + 16] for start in range(0, len(drawn), 16))


def _own(span: Span) -> OtelSpan:
    if not isinstance(span, OtelSpan):
        message = f"expected a span of this tracer, got {type(span).__name__}"
        raise TypeError(message)
    return span
