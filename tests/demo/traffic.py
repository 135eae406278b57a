"""A real trace, compressed, as requests that arrive whether or not the last one was answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np

from training.simulator.workload import Workload
from training.traces import Use, windows

MOST_IN_FLIGHT = 500
"""Requests under way at once; a person who sees no answer does not send a thousand more."""
TIMEOUT_S = 5.0


class Request(NamedTuple):
    """One request, as whoever sent it saw it."""

    sent_s: float
    """Since the start of the run."""
    took_s: float
    succeeded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How many requests come when."""

    source: Workload
    peak_rate: float
    """Requests/s at the highest point of the trace."""
    seconds: float
    """Length of the run, into which the whole trace is compressed."""

    def rate(self, since_s: float) -> float:
        """Requests/s at a moment of the run."""
        place = np.array([since_s / self.seconds * self.source.duration_s])
        return float(self.source.at(place)[0] / self.source.load.max()) * self.peak_rate


def traffic_of(folder: Path, name: str, *, peak_rate: float, seconds: float) -> Traffic:
    """A day of the real traces, by its name (`nasa-1995-07-24`).

    Raises:
        NotFound: The traces are not there.
        KeyError: They hold no such day for validation.
    """
    by_name = {window.name: window for window in windows(Use.VALIDATE, folder)}
    return Traffic(source=by_name[name], peak_rate=peak_rate, seconds=seconds)


@dataclass(slots=True)
class Driver:
    """Sends the traffic and keeps what came of each request."""

    traffic: Traffic
    url: str
    seed: int
    requests: list[Request] = field(default_factory=list)
    not_sent: int = 0

    async def run(self) -> None:
        """Until the trace is over and every request has ended."""
        rng = np.random.default_rng(self.seed)
        started = due = time.monotonic()
        pending: set[asyncio.Task[None]] = set()
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while (since := due - started) < self.traffic.seconds:
                due += float(rng.exponential(1.0 / max(self.traffic.rate(since), 0.1)))
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if len(pending) >= MOST_IN_FLIGHT:
                    self.not_sent += 1
                    continue
                task = asyncio.create_task(self._send(session, started))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.gather(*pending)

    async def _send(self, session: aiohttp.ClientSession, started: float) -> None:
        sent = time.monotonic()
        try:
            async with session.get(self.url) as response:
                await response.read()
                succeeded = response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            succeeded = False
        self.requests.append(Request(sent - started, time.monotonic() - sent, succeeded))
