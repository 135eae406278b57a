"""A small real HTTP service, one process a pod, which measures itself with prometheus_client.

A request holds 2 MiB, waits for the one worker, uses 8 ms of CPU and waits 90 ms for somebody else,
as a call to a database would. Beyond ten waiting requests it answers 503. CPU is burnt by the
thread's own clock, so that a request costs the same on a fast and on a slow machine.

Run as `python tests/live/service.py`; the first line of output is the port.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import sys
import time
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CPU_S = 0.008
WAIT_S = 0.090
HELD_BYTES = 2 * 1024 * 1024
MAX_WAITING = 10
BODY = b"x" * 1000


class Service:
    """The ASGI application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests", "Requests", ["method", "code"], registry=self.registry
        )
        self.duration = Histogram(
            "http_request_duration_seconds",
            "From arrival to answer",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.in_flight = Gauge("http_requests_in_flight", "Unanswered", registry=self.registry)
        self.sent = Counter("service_sent_bytes", "Bytes of answers", registry=self.registry)
        # A counter without series cannot tell an idle service from one that is not measured.
        for code in ("200", "503"):
            self.requests.labels("GET", code)
        self.worker = asyncio.Lock()
        self.waiting = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/metrics":
            await self.answer(send, 200, generate_latest(self.registry))
            return
        started = time.perf_counter()
        with self.in_flight.track_inprogress():
            code = await self.work()
            await self.answer(send, code, BODY)
        self.duration.observe(time.perf_counter() - started)
        self.requests.labels("GET", str(code)).inc()

    async def work(self) -> int:
        if self.waiting > MAX_WAITING:
            return 503
        self.waiting += 1
        try:
            with mmap.mmap(-1, HELD_BYTES) as held:
                held.write(b"\1" * HELD_BYTES)
                async with self.worker:
                    burn(CPU_S)
                    await asyncio.sleep(WAIT_S)
        finally:
            self.waiting -= 1
        return 200

    async def answer(self, send: Any, code: int, body: bytes) -> None:
        await send({"type": "http.response.start", "status": code, "headers": []})
        await send({"type": "http.response.body", "body": body})
        self.sent.inc(len(body))


def burn(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


async def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(Service(), log_level="warning", lifespan="off")
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
