"""One evaluation as a trace: its id, its steps, and what travels with its questions to KServe.

The id stands in every log line of the evaluation and in `x-request-id` of its questions, so that a
decision is found again in the servers' logs, traced or not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, NamedTuple, Protocol

from nimbusguard.client.decision import Decision
from nimbusguard.client.instances import NamedMetrics
from nimbusguard.telemetry.spans import Kind, Span, Tracer, Value


class Evaluation(NamedTuple):
    """The evaluation under way."""

    request_id: str
    tracer: Tracer | None = None
    span: Span | None = None
    """What new spans hang below; None if the evaluation is not sampled."""

    @property
    def trace_id(self) -> str | None:
        """Of the trace, if there is one."""
        return None if self.span is None else self.span.trace_id


_CURRENT: Final[ContextVar[Evaluation | None]] = ContextVar("evaluation", default=None)


def current() -> Evaluation | None:
    """The evaluation that this task works for."""
    return _CURRENT.get()


@contextmanager
def evaluation(tracer: Tracer | None, policies: int) -> Iterator[Evaluation]:
    """Everything in the block belongs to one evaluation.

    Args:
        tracer: Records it if it samples it; None where nothing is traced.
        policies: Whose turn it is.
    """
    request_id = secrets.token_hex(8)
    span = None
    if tracer is not None and tracer.samples(None):
        about: dict[str, Value] = {
            "nimbusguard.request_id": request_id,
            "nimbusguard.policies": policies,
        }
        span = tracer.start("evaluate", Kind.INTERNAL, None, attributes=about)
    with _as_current(Evaluation(request_id, tracer, span)) as one:
        yield one


@contextmanager
def step(name: str, kind: Kind = Kind.INTERNAL) -> Iterator[Evaluation | None]:
    """A span for one step of the evaluation under way; nothing where it is not sampled."""
    whole = _CURRENT.get()
    if whole is None or whole.tracer is None or whole.span is None:
        yield whole
        return
    span = whole.tracer.start(name, kind, whole.span)
    with _as_current(whole._replace(span=span)) as part:
        yield part


@contextmanager
def _as_current(one: Evaluation) -> Iterator[Evaluation]:
    token = _CURRENT.set(one)
    try:
        with nullcontext() if one.span is None else one.span:
            yield one
    finally:
        _CURRENT.reset(token)


class Client(Protocol):
    """What is needed of `AsyncClient`."""

    async def decide(
        self,
        instances: Sequence[NamedMetrics],
        *,
        deadline_s: float | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Decision]:
        """One decision an instance."""
        ...


class TracedClient:
    """Asks KServe under the name of the evaluation under way."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def decide(
        self, instances: Sequence[NamedMetrics], *, deadline_s: float | None = None
    ) -> list[Decision]:
        """One decision an instance."""
        with step("ask", Kind.CLIENT) as part:
            request_id = None if part is None else part.request_id
            span = None if part is None else part.span
            if span is not None:
                span.set("nimbusguard.batch.rows", len(instances))
            return await self._client.decide(
                instances,
                deadline_s=deadline_s,
                request_id=request_id,
                traceparent=None if span is None else span.traceparent.decode("ascii"),
            )
