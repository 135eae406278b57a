"""What a front asks of a model, and how it is told the outcome: the seam between wire and work.

A front (V1, V2 REST, gRPC) turns bytes into a `Call`; a `ModelService` answers each call exactly
once. Nothing past this seam sees a wire shape, and nothing before it sees a network.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from numpy.typing import NDArray

from nimbusguard.console.api import ConsoleApi
from nimbusguard.contract.tensors import InferResponse, TensorSpec
from nimbusguard.telemetry.spans import Span

logger = logging.getLogger(__name__)

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class Trace(NamedTuple):
    """What travels with a request for people who follow it through the system."""

    request_id: bytes
    traceparent: bytes | None = None
    tracestate: bytes | None = None
    span: Span | None = None
    """Ours, if the request is sampled; `traceparent` is then its own."""


class Call(Generic[PayloadT, ResultT]):
    """One request to a model. A front overrides `succeed` and `fail`; one is called, once.

    `deliver` and `refuse` see to that: whoever ends a call first has ended it.
    """

    __slots__ = ("arrived", "is_over", "payload", "rows", "trace")

    def __init__(self, payload: PayloadT, rows: int, trace: Trace) -> None:
        self.payload = payload
        self.rows = rows
        self.trace = trace
        self.is_over = False
        self.arrived = time.perf_counter()

    def succeed(self, result: ResultT) -> None:
        """The answer."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """The reason why there is none; anything but a `NimbusGuardError` is our own fault."""
        raise NotImplementedError

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return False


class FutureCall(Call[PayloadT, ResultT]):
    """A call that completes a future."""

    __slots__ = ("future",)

    def __init__(self, payload: PayloadT, rows: int, trace: Trace) -> None:
        super().__init__(payload, rows, trace)
        self.future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()

    def succeed(self, result: ResultT) -> None:
        """Complete the future, unless its owner has gone."""
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Fail the future, unless its owner has gone."""
        if not self.future.done():
            self.future.set_exception(error)

    @property
    def is_abandoned(self) -> bool:
        """Whether the future's owner has gone."""
        return self.future.cancelled()


def deliver(call: Call[Any, ResultT], result: ResultT) -> None:
    """Hand an open call its result; a defect in building the answer fails this call and no other.

    A call that is over stays as it ended: its deadline came before the result.
    """
    if call.is_over:
        return
    call.is_over = True
    try:
        call.succeed(result)
    except Exception as error:
        logger.exception("unexpected error")
        call.fail(error)


def refuse(call: Call[Any, Any], error: BaseException) -> None:
    """Fail a call, unless it is over."""
    if not call.is_over:
        call.is_over = True
        call.fail(error)


class ModelService(ABC, Generic[PayloadT, ResultT]):
    """A model as its fronts see it."""

    component: ClassVar[str]
    """`predictor` or `transformer`; a label of the metrics."""
    name: str
    """The model's name in every path."""
    platform: ClassVar[str]
    """What runs the model, for the V2 metadata."""
    inputs: ClassVar[Sequence[TensorSpec]]
    outputs: ClassVar[Sequence[TensorSpec]]
    v1_instance: ClassVar[Mapping[str, Any]]
    """JSON schema of one V1 instance, for the OpenAPI description."""
    v1_prediction: ClassVar[Mapping[str, Any]]
    """JSON schema of one V1 prediction."""
    v1_beside: ClassVar[Mapping[str, Any]] = {}
    """JSON schemas of what a V1 answer has beside the list of its rows, by key."""
    v1_other_bodies: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """JSON schemas of V1 bodies beside `{"instances": […]}`."""
    v1_example: ClassVar[Any]
    """One good V1 instance."""
    v2_example: ClassVar[Sequence[Mapping[str, Any]]]
    """The input tensors of one good V2 request."""

    @property
    @abstractmethod
    def version(self) -> str | None:
        """The version of the model that answers now, if known."""

    @property
    def explanation(self) -> ModelService[Any, Any] | None:
        """What answers `:explain` and V2 requests for outputs of its own; None if nothing does."""
        return None

    @property
    def console(self) -> ConsoleApi | None:
        """What answers `/console/`; None to leave it out."""
        return None

    @abstractmethod
    def check_ready(self) -> None:
        """Raise what keeps the model from answering.

        Raises:
            Unavailable: It is not ready.
        """

    @abstractmethod
    def check_room(self) -> None:
        """Refuse before a body is parsed.

        Raises:
            Overloaded: Too many requests wait.
        """

    @abstractmethod
    def parse_v1(self, body: object) -> tuple[PayloadT, int]:
        """The payload and its number of rows.

        Raises:
            InvalidRequest: The body has another form.
        """

    @abstractmethod
    def parse_v2(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[PayloadT, int]:
        """As `parse_v1`, of tensors that have the specified shapes."""

    @abstractmethod
    def submit(self, call: Call[PayloadT, ResultT]) -> None:
        """Answer a call, now or later.

        Raises:
            NimbusGuardError: It is refused at once; then neither `succeed` nor `fail` is called.
        """

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether `check_room` would refuse; asked before anything of a request is looked at."""

    @abstractmethod
    def v1_body(self, result: ResultT) -> bytes:
        """The V1 answer as JSON."""

    @abstractmethod
    def v2_response(self, result: ResultT) -> InferResponse:
        """The V2 answer."""


class Named(Protocol):
    """An output that a request asks for, in either protocol's form."""

    @property
    def name(self) -> str:
        """The tensor's name."""


class OutputChoice:
    """Picks the service that has all outputs of a V2 request: explanations cost more.

    Args:
        service: The model.
    """

    def __init__(self, service: ModelService[Any, Any]) -> None:
        self._plain = service
        self._explanation = explanation = service.explanation or service
        own = {spec.name for spec in service.outputs}
        self._explained = frozenset(spec.name for spec in explanation.outputs) - own

    def explains(self, asked: Iterable[Named]) -> bool:
        """Whether one of the outputs that are asked for is an explanation's."""
        return any(output.name in self._explained for output in asked)

    def of(self, asked: Iterable[Named]) -> ModelService[Any, Any]:
        """The service for the outputs that are asked for; none in particular is the plain one."""
        return self._explanation if self.explains(asked) else self._plain
