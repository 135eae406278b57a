"""Requests at a constant rate over keep-alive connections, and every failure with its reason."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson


def processor_ticks() -> tuple[int, int]:
    """The idle and all ticks of all cores since the machine started (proc(5), /proc/stat)."""
    # user, nice, system, idle, iowait, irq, softirq, steal; what guests use is part of user.
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


@dataclass(slots=True)
class Load:
    """An open loop: a slow answer does not slow the next request down.

    Attributes:
        address: Where to connect.
        host: The name that the caller used.
        path: Of the request.
        bodies: Of the requests, one after another, over and over.
        rate: Requests per second, over all connections.
        connections: Callers.
        sent: Requests so far.
        failures: By reason: no answer, or another than 200.
        versions: Decisions by the model version that made them.
        latencies_s: Of every request.
        seconds: How long it lasted, once it is over.
        idle: Share of the machine's processor time that nobody used meanwhile, once it is over.
    """

    address: tuple[str, int]
    host: str
    path: str
    bodies: tuple[bytes, ...]
    rate: float
    connections: int = 50
    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    idle: float = 0.0
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send until told to stop; each connection keeps its own schedule."""
        started, (idle, ticks) = time.perf_counter(), processor_ticks()
        await asyncio.gather(*(self._caller(index) for index in range(self.connections)))
        self.seconds = time.perf_counter() - started
        idle_now, ticks_now = processor_ticks()
        self.idle = (idle_now - idle) / (ticks_now - ticks)

    def stop(self) -> None:
        """Let every caller finish its request and leave."""
        self._stopping.set()

    async def _caller(self, index: int) -> None:
        interval = self.connections / self.rate
        due = time.perf_counter() + interval * index / self.connections
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopping.is_set():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + interval, time.perf_counter() - 1.0)
            self.sent += 1
            started = time.perf_counter()
            try:
                if streams is None:
                    streams = await asyncio.open_connection(*self.address)
                keep = await self._exchange(*streams)
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.failures[f"{type(error).__name__}: {error}"] += 1
                keep = False
            self.latencies_s.append(time.perf_counter() - started)
            if not keep and streams is not None:
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; gives back whether the connection stays."""
        body = self.bodies[self.sent % len(self.bodies)]
        writer.write(
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        answer = await reader.readexactly(int(headers["content-length"]))
        status = head[0].split()[1]
        if status == "200":
            for decision in orjson.loads(answer)["predictions"]:
                self.versions[decision["model_version"]] += 1
        else:
            self.failures[f"{status}: {answer[:200].decode(errors='replace')}"] += 1
        return headers.get("connection", "").lower() != "close"


async def run_together(loads: Sequence[Load], seconds: float) -> None:
    """Send from all of them at once for some time, and return when every request is answered."""

    async def stop() -> None:
        await asyncio.sleep(seconds)
        for load in loads:
            load.stop()

    await asyncio.gather(stop(), *(load.run() for load in loads))
