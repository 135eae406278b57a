"""A real trace, compressed, as requests that arrive whether or not the last one was answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np

from training.simulator.workload import Workload, scaled_to_peak
from training.traces import PARTS, Use, read_series, windows

MOST_IN_FLIGHT = 500
"""Requests under way at once; a person who sees no answer does not send a thousand more."""
TIMEOUT_S = 5.0
EXCERPT = Path(__file__).parents[1] / "data/traces/nasa_1995-07-24_requests_per_min.csv"
EXCERPT_NAME = "nasa-1995-07-24"


class Request(NamedTuple):
    """One request, as whoever sent it saw it."""

    sent_s: float
    """Since the start of the run."""
    took_s: float
    succeeded: bool
    late_s: float = 0.0
    """How much later it was sent than the traffic says: a machine without a free core."""

    def violates(self, objective_s: float) -> bool:
        """Whether it failed or was too slow."""
        return not self.succeeded or self.took_s > objective_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How many requests come when."""

    name: str
    peak_rate: float
    """No moment has more requests/s."""
    seconds: float
    """Length of the run."""
    rate: Callable[[float], float]
    """Requests/s at a moment of the run."""


def compressed(source: Workload, *, peak_rate: float, seconds: float) -> Traffic:
    """A whole trace in so many seconds; its highest bin becomes `peak_rate`."""
    highest = float(source.load.max())

    def rate(since_s: float) -> float:
        place = np.array([since_s / seconds * source.duration_s])
        return float(source.at(place)[0]) / highest * peak_rate

    return Traffic(
        name=f"{source.name}, {source.duration_s / 3600.0:g} hours in {seconds:g} s",
        peak_rate=peak_rate,
        seconds=seconds,
        rate=rate,
    )


def trace_of(folder: Path, name: str) -> Workload:
    """A day of the real traces, by its name; the committed excerpt where there are no traces.

    Raises:
        NotFound: The folder holds some of the traces, but not all.
        KeyError: There is no such day for validation.
    """
    if any((folder / part.file).is_file() for part in PARTS):
        return {window.name: window for window in windows(Use.VALIDATE, folder)}[name]
    if name != EXCERPT_NAME:
        raise KeyError(name)
    return scaled_to_peak(EXCERPT_NAME, "nasa", 60.0, read_series(EXCERPT, 60.0).counts)


class Driver:
    """Sends the same arrivals to every workload and keeps what came of each request."""

    def __init__(
        self, traffic: Traffic, urls: Mapping[str, str], *, seed: int, objective_s: float
    ) -> None:
        """Nothing is sent yet.

        Args:
            traffic: How many come when.
            urls: Where each workload answers.
            seed: Of the arrivals.
            objective_s: A slower request is a violation.
        """
        self.traffic = traffic
        self._urls = urls
        self._seed = seed
        self._objective_s = objective_s
        self.requests: dict[str, list[Request]] = {workload: [] for workload in urls}
        self.not_sent = dict.fromkeys(urls, 0)
        self.violations = dict.fromkeys(urls, 0)
        """So far, those that were not sent among them."""
        self.started_s = 0.0
        """When `run` began, on the monotonic clock."""

    async def run(self) -> None:
        """Until the traffic is over and every request has ended."""
        rng = np.random.default_rng(self._seed)
        pending: dict[str, set[asyncio.Task[None]]] = {workload: set() for workload in self._urls}
        traffic, started, since = self.traffic, time.monotonic(), 0.0
        self.started_s = started
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            # A Poisson process of the peak rate, thinned to the rate of each moment.
            while (since := since + float(rng.exponential(1.0 / traffic.peak_rate))) < (
                traffic.seconds
            ):
                # First the moment, then its rate: whoever runs it may change the rate meanwhile.
                await asyncio.sleep(max(0.0, started + since - time.monotonic()))
                if rng.random() * traffic.peak_rate >= traffic.rate(since):
                    continue
                for workload, mine in pending.items():
                    if len(mine) >= MOST_IN_FLIGHT:
                        self.not_sent[workload] += 1
                        self.violations[workload] += 1
                        continue
                    task = asyncio.create_task(self._send(session, workload, started, since))
                    mine.add(task)
                    task.add_done_callback(mine.discard)
            await asyncio.sleep(max(0.0, started + traffic.seconds - time.monotonic()))
            await asyncio.gather(*(task for mine in pending.values() for task in mine))

    def p95_s(self, workload: str, since_s: float) -> float:
        """Of the last five seconds, as the senders saw it; 0 without a request."""
        recent = [one.took_s for one in self.requests[workload][-1000:] if one.sent_s > since_s - 5]
        return float(np.quantile(recent, 0.95)) if recent else 0.0

    async def _send(
        self, session: aiohttp.ClientSession, workload: str, started: float, due_s: float
    ) -> None:
        sent = time.monotonic()
        try:
            async with session.get(self._urls[workload]) as response:
                await response.read()
                succeeded = response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            succeeded = False
        took_s, sent_s = time.monotonic() - sent, sent - started
        request = Request(sent_s, took_s, succeeded, sent_s - due_s)
        self.requests[workload].append(request)
        self.violations[workload] += request.violates(self._objective_s)
