"""An HTTP/1.1 client for what `wrk` cannot do: arrivals on a schedule, and a check of every answer.

Small on purpose: each connection carries one request at a time, the requests are complete bytes,
and what is done with an answer is a callback. Counts and times are bounded by the caller. Times are
`time.monotonic`, because the clock of uvloop counts whole milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import httptools
import numpy as np
from numpy.typing import NDArray

BROKEN: Final = 0
"""Status of a request whose connection broke before the answer."""
UNANSWERED: Final = -1
"""Status of a request that had no answer when the run ended."""
UNSENT: Final = -2
"""Status of a request that was due while every connection was busy, where those are given up."""
_PACE_S: Final = 0.001
_MAX_REPLACED: Final = 10_000
"""Broken connections that are replaced in one run; a server that breaks more has failed it."""


class Connection(asyncio.Protocol):
    """One connection that stays open."""

    def __init__(self, answered: Callable[[Connection, int, bytes], None]) -> None:
        self._answered = answered
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.request = -1
        """What is asked at the moment; -1 is nothing."""

    @property
    def open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: int, content: bytes) -> None:
        """Send one request; the answer comes to the callback."""
        self.request = request
        if self._transport is not None:
            self._transport.write(content)

    def close(self) -> None:
        """End the connection; nobody is told."""
        self.request = -1
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class says so
        """Report a request that will never be answered."""
        self._transport = None
        if self.request >= 0:
            self._answered(self, BROKEN, b"")

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        """Collect a part of the body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        body = b"".join(self._parts)
        self._parts.clear()
        self._answered(self, self._parser.get_status_code(), body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A constant rate of arrivals for a while."""

    rate: float
    """Requests per second."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What became of every request of an open loop, in the order of their due times."""

    due_s: NDArray[np.float64]
    """When each request had to be sent, from the start (N,)."""
    done_s: NDArray[np.float64]
    """When its answer came (N,); infinity without one."""
    status: NDArray[np.int16]
    """HTTP status (N,), or `BROKEN` or `UNANSWERED`."""
    accepted: NDArray[np.bool_]
    """Whether the answer was the right one (N,)."""


def due_times(phases: Sequence[Phase]) -> NDArray[np.float64]:
    """Seconds from the start at which each request is due (N,), evenly spaced in each phase."""
    start = 0.0
    parts: list[NDArray[np.float64]] = [np.empty(0)]
    for phase in phases:
        parts.append(start + np.arange(round(phase.rate * phase.seconds)) / phase.rate)
        start += phase.seconds
    return np.concatenate(parts)


def is_ok(_request: int, status: int, _body: bytes) -> bool:
    """Accept an answer for its status alone."""
    return status == 200


class OpenLoop:
    """Sends each request when it is due, whether or not earlier ones have been answered.

    Latency counts from when a request was due, never from when it was sent: a slow server cannot
    slow its own load down. A request that finds no free connection waits for one, and that counts
    too; unless `gives_up`, which models a fleet whose connections are bounded: then it is never
    sent, is `UNSENT`, and has no latency.

    Args:
        port: Where the server listens on loopback.
        requests: Complete HTTP requests, sent in turn.
        phases: When.
        accept: Whether an answer is the right one: index in `requests`, status, body.
        gives_up: Whether requests that find no free connection are left unsent.
    """

    def __init__(
        self,
        port: int,
        requests: Sequence[bytes],
        phases: Sequence[Phase],
        accept: Callable[[int, int, bytes], bool] = is_ok,
        *,
        gives_up: bool = False,
    ) -> None:
        self._port = port
        self._requests = requests
        self._accept = accept
        self._gives_up = gives_up
        self._due = due_times(phases)
        self._done = np.full(len(self._due), np.inf)
        self._status = np.full(len(self._due), UNANSWERED, dtype=np.int16)
        self._accepted = np.zeros(len(self._due), dtype=np.bool_)
        self._idle: deque[Connection] = deque()
        self._backlog: deque[int] = deque()
        self._connections: set[Connection] = set()
        self._reconnects: set[asyncio.Task[None]] = set()
        self._replaced = 0
        self._left = len(self._due)
        self._finished = asyncio.Event()
        self._started = 0.0

    async def run(self, *, connections: int, start_at: float, grace_s: float) -> Trace:
        """Run all phases.

        Args:
            connections: How many are kept open.
            start_at: Time of `time.monotonic`, the same in every process, to begin.
            grace_s: Seconds to wait for the last answers.
        """
        for _ in range(connections):
            await self._connect()
        await asyncio.sleep(max(start_at - time.monotonic(), 0.0))
        self._started = time.monotonic()
        sent = 0
        while sent < len(self._due):
            now = time.monotonic() - self._started
            ready = int(np.searchsorted(self._due, now, side="right"))
            for index in range(sent, ready):
                self._send(index)
            sent = ready
            await asyncio.sleep(_PACE_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), grace_s)
        for connection in self._connections:
            connection.close()
        return Trace(
            due_s=self._due, done_s=self._done, status=self._status, accepted=self._accepted
        )

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._answered), "127.0.0.1", self._port
        )
        self._connections.add(connection)
        self._free(connection)

    async def _reconnect(self) -> None:
        # A server that cannot be reached leaves requests unanswered, and as such they are counted.
        with contextlib.suppress(OSError):
            await self._connect()

    def _send(self, index: int) -> None:
        self._backlog.append(index)
        while self._idle and self._backlog:
            connection = self._idle.popleft()
            if connection.open:
                self._ask(connection)
            else:
                self._replace(connection)
        if self._gives_up and self._backlog:
            self._status[self._backlog.popleft()] = UNSENT
            self._settle()

    def _settle(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._finished.set()

    def _ask(self, connection: Connection) -> None:
        index = self._backlog.popleft()
        connection.ask(index, self._requests[index % len(self._requests)])

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        index = connection.request
        connection.request = -1
        self._done[index] = time.monotonic() - self._started
        self._status[index] = status
        self._accepted[index] = self._accept(index % len(self._requests), status, body)
        self._settle()
        if status == BROKEN:
            self._replace(connection)
        else:
            self._free(connection)

    def _free(self, connection: Connection) -> None:
        if self._backlog and connection.open:
            self._ask(connection)
        else:
            self._idle.append(connection)

    def _replace(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._replaced += 1
        if self._replaced > _MAX_REPLACED:
            return
        task = asyncio.get_running_loop().create_task(self._reconnect())
        self._reconnects.add(task)
        task.add_done_callback(self._reconnects.discard)
