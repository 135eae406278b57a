"""Spans as the services speak of them; what records them is behind `Tracer`.

Without a tracer nothing here costs anything: a service that has none holds None and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Final, Protocol

Value = str | int | float | bool
NOTHING: Final[Mapping[str, Value]] = {}


class Kind(Enum):
    """Which side of a call a span is, as OpenTelemetry says."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(AbstractContextManager["Span", None], Protocol):
    """One piece of work of a sampled request; as a context, it ends with its block.

    An error that leaves the block is the span's.
    """

    name: str
    """What kind of work, not which; may change until the span ends."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""

    @property
    def traceparent(self) -> bytes:
        """What travels to whoever continues the trace below this span (W3C Trace Context)."""

    @property
    def tracestate(self) -> bytes | None:
        """What other systems put into the trace; handed on."""

    def set(self, name: str, value: Value) -> None:
        """Tell more about the work."""

    def link(self, other: Span) -> None:
        """Point to a span of another trace that shared the work."""

    def end(self, error: str | None = None) -> None:
        """The work is done, or failed for this reason."""


class Tracer(Protocol):
    """Makes spans of requests that are sampled."""

    by_chance: Callable[[], bool]
    """Whether the next request is recorded of which nobody says; to be asked once for each."""

    def samples(self, traceparent: bytes | None) -> bool:
        """Whether a request is recorded: as its caller says, by chance where nobody says."""

    def start(
        self,
        name: str,
        kind: Kind,
        parent: Span | tuple[bytes, bytes | None] | None,
        *,
        links: Sequence[Span] = (),
        attributes: Mapping[str, Value] = NOTHING,
    ) -> Span:
        """Begin a span.

        Args:
            name: What kind of work, not which.
            kind: Which side of a call.
            parent: A span here, a caller's traceparent and tracestate, or None for a new trace.
            links: Spans of other requests that share the work.
            attributes: What is known of it.
        """

    def close(self) -> None:
        """Send what is left, for at most four seconds."""
