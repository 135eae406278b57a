"""`AsyncClient` and `Client`: the only code of the client that touches the network.

Both carry out the steps of `exchange.Conversation` and translate httpx's exceptions in one place;
every rule (retries, deadline, errors, validation) lives there, once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, TypedDict, TypeVar

import httpx
import numpy as np

from nimbusguard.client.decision import Decision
from nimbusguard.client.exchange import ClientSettings, Conversation, Pause, Send, Talk
from nimbusguard.client.instances import Instance
from nimbusguard.client.metadata import ModelMetadata
from nimbusguard.client.outcomes import Failed, Fault, Outcome, Reply

T = TypeVar("T")

_FAULTS: Final[tuple[tuple[type[httpx.HTTPError], Fault], ...]] = (
    (httpx.ConnectError, Fault.UNREACHED),
    (httpx.ConnectTimeout, Fault.UNREACHED),
    (httpx.PoolTimeout, Fault.UNREACHED),
    (httpx.TimeoutException, Fault.TIMED_OUT),
    (httpx.NetworkError, Fault.DISCONNECTED),
    (httpx.RemoteProtocolError, Fault.DISCONNECTED),
    (httpx.HTTPError, Fault.GARBLED),
)
"""First match wins, from the particular to the general."""


class AsyncClient:
    """Asks the transformer for decisions; one per process, safe for many tasks at once.

    The deadline is absolute: whatever the server does, a call ends by then.

    Example::

        async with AsyncClient() as client:
            decisions = await client.decide([NamedMetrics(metrics={...})])
    """

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Nothing is sent until the first call.

        Args:
            settings: Endpoint, deadline, timeouts and retries.
            transport: Replaces the network.
            clock: Seconds from any origin, never going back.
            sleep: Waits between attempts.
            rng: Draws jitter and request ids.
        """
        self._settings = settings or ClientSettings()
        self._talk = Conversation(
            self._settings, clock=clock, rng=rng if rng is not None else np.random.default_rng()
        )
        self._sleep = sleep
        # trust_env: a proxy of the environment must not come between a cluster's own services.
        self._http = httpx.AsyncClient(transport=transport, trust_env=False)

    async def decide(
        self,
        instances: Sequence[Instance],
        *,
        deadline_s: float | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Decision]:
        """One decision an instance, in their order.

        Args:
            instances: At least one; the transformer refuses the whole request for a bad one.
            deadline_s: Seconds for this call, instead of the settings'.
            request_id: Sent as `x-request-id`; one is made if none is given.
            traceparent: The caller's span as W3C Trace Context writes it; nothing is sent if none
                is given.

        Raises:
            InvalidRequest: The transformer refused the request; its words are the message.
            NotFound: The endpoint serves no such model.
            Unavailable: It cannot answer now (`IncompatibleModel`, `Overloaded` and
                `PredictorUnavailable` are kinds of this), also after retries.
            DeadlineExceeded: No answer in time.
            NonFiniteOutput: The network returned NaN or infinity.
        """
        return await self._drive(
            self._talk.decide(
                instances, deadline_s=deadline_s, request_id=request_id, traceparent=traceparent
            )
        )

    async def ready(self) -> bool:
        """Whether the model behind the transformer can answer now; asked once, without retry."""
        return await self._drive(self._talk.ready())

    async def metadata(self) -> ModelMetadata:
        """Name, versions and tensors of the served model; raises as `decide` does."""
        return await self._drive(self._talk.metadata())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _drive(self, talk: Talk[T]) -> T:
        outcome: Outcome | None = None
        while True:
            try:
                step = talk.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = await self._carry_out(step)

    async def _carry_out(self, step: Send | Pause) -> Outcome | None:
        if isinstance(step, Send):
            return await self._attempt(step)
        await self._sleep(step.seconds)
        return None

    async def _attempt(self, send: Send) -> Outcome:
        body = bytearray()
        try:
            async with (
                asyncio.timeout(send.remaining_s),
                self._http.stream(**_arguments(send)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > self._settings.max_answer_bytes:
                        return _too_long(self._settings)
                return _reply(response, body)
        except TimeoutError:
            return _overdue(send)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return _failed(exc)


class Client:
    """`AsyncClient` for programs without an event loop; safe for many threads at once.

    The deadline is checked whenever bytes of the body arrive, and no wait is longer than the time
    that was left when the attempt began. A server that trickles the headers can outlast it; who
    needs an absolute deadline uses `AsyncClient`.
    """

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        rng: np.random.Generator | None = None,
    ) -> None:
        """See `AsyncClient`."""
        self._settings = settings or ClientSettings()
        self._clock = clock
        self._talk = Conversation(
            self._settings, clock=clock, rng=rng if rng is not None else np.random.default_rng()
        )
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, trust_env=False)

    def decide(
        self,
        instances: Sequence[Instance],
        *,
        deadline_s: float | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Decision]:
        """One decision an instance, in their order; see `AsyncClient.decide`."""
        return self._drive(
            self._talk.decide(
                instances, deadline_s=deadline_s, request_id=request_id, traceparent=traceparent
            )
        )

    def ready(self) -> bool:
        """Whether the model behind the transformer can answer now; asked once, without retry."""
        return self._drive(self._talk.ready())

    def metadata(self) -> ModelMetadata:
        """Name, versions and tensors of the served model; raises as `decide` does."""
        return self._drive(self._talk.metadata())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drive(self, talk: Talk[T]) -> T:
        outcome: Outcome | None = None
        while True:
            try:
                step = talk.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._carry_out(step)

    def _carry_out(self, step: Send | Pause) -> Outcome | None:
        if isinstance(step, Send):
            return self._attempt(step)
        self._sleep(step.seconds)
        return None

    def _attempt(self, send: Send) -> Outcome:
        body = bytearray()
        ends = self._clock() + send.remaining_s
        try:
            with self._http.stream(**_arguments(send)) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > self._settings.max_answer_bytes:
                        return _too_long(self._settings)
                    if self._clock() > ends:
                        return _overdue(send)
                return _reply(response, body)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return _failed(exc)


class _Arguments(TypedDict):
    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None
    timeout: httpx.Timeout


def _arguments(send: Send) -> _Arguments:
    return _Arguments(
        method=send.method,
        url=send.url,
        headers=send.headers,
        content=send.content or None,
        timeout=httpx.Timeout(send.read_timeout_s, connect=send.connect_timeout_s),
    )


def _reply(response: httpx.Response, body: bytearray) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(status=response.status_code, headers=headers, body=bytes(body))


def _failed(error: httpx.HTTPError | httpx.InvalidURL) -> Failed:
    fault = next((fault for kind, fault in _FAULTS if isinstance(error, kind)), Fault.GARBLED)
    return Failed(fault=fault, detail=str(error) or type(error).__name__)


def _overdue(send: Send) -> Failed:
    return Failed(fault=Fault.TIMED_OUT, detail=f"{send.remaining_s:.3f} s were left")


def _too_long(settings: ClientSettings) -> Failed:
    detail = f"more than {settings.max_answer_bytes} bytes"
    return Failed(fault=Fault.GARBLED, detail=detail)
