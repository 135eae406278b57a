"""A bounded load over keep-alive connections that knows what became of every single request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum


class End(Enum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """No connection: the server had not accepted anything."""
    BROKEN = "broken"
    """Accepted, and then no answer, or half of one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request."""

    end: End
    began: float
    took_s: float
    status: int = 0
    retry_after: str | None = None


@dataclass(slots=True)
class Load:
    """What a load has seen so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    is_over: bool = False

    def since(self, moment: float) -> list[Outcome]:
        """Requests that began at or after a moment of `time.perf_counter`."""
        return [outcome for outcome in self.outcomes if outcome.began >= moment]

    def count(self, end: End) -> int:
        """Requests that ended so."""
        return sum(outcome.end is end for outcome in self.outcomes)


@asynccontextmanager
async def running_load(
    port: int, path: str, body: bytes, *, connections: int, limit_s: float = 60.0
) -> AsyncIterator[Load]:
    """Send the same request over several connections until the block ends, or the limit."""
    load = Load()
    stop_at = time.perf_counter() + limit_s
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    tasks = [
        asyncio.create_task(_one_connection(load, port, head + body, stop_at))
        for _ in range(connections)
    ]
    try:
        yield load
    finally:
        load.is_over = True
        await asyncio.gather(*tasks)


async def _one_connection(load: Load, port: int, request: bytes, stop_at: float) -> None:
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while not load.is_over and time.perf_counter() < stop_at:
        began = time.perf_counter()
        if streams is None:
            try:
                streams = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                load.outcomes.append(Outcome(End.REFUSED, began, time.perf_counter() - began))
                await asyncio.sleep(0.01)  # paces the attempts; nothing waits for it
                continue
        outcome, keeps = await _exchange(streams, request, began)
        load.outcomes.append(outcome)
        if not keeps:
            streams[1].close()
            streams = None
    if streams is not None:
        streams[1].close()


async def _exchange(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes, began: float
) -> tuple[Outcome, bool]:
    reader, writer = streams
    try:
        writer.write(request)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
    except (OSError, asyncio.IncompleteReadError):
        return Outcome(End.BROKEN, began, time.perf_counter() - began), False
    outcome = Outcome(
        End.ANSWERED,
        began,
        time.perf_counter() - began,
        int(lines[0].split()[1]),
        headers.get("retry-after"),
    )
    return outcome, headers.get("connection") != "close"
