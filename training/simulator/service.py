"""What a service model is given for an interval and what it tells back; shared by both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BUCKETS: Final = np.array([0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
"""Upper bounds of the latency histogram: those of the Prometheus clients, 25 ms to 5 s."""

CONTENDED: Final = np.float32(1.5)
"""A request that takes so many times the mean service time has competed for its pod."""


class Retries:
    """Failed attempts of N lanes that clients will repeat, at random times."""

    def __init__(self, lanes: int) -> None:
        self.waiting = np.zeros(lanes, dtype=np.float32)
        self._repeated = np.zeros(lanes, dtype=np.float32)
        self._due = np.ones(lanes, dtype=np.float32)

    def reset(self, lanes: NDArray[np.int64], parameters: dict[str, NDArray[np.float64]]) -> None:
        """Forget what the lanes (K,) held and take their parameters, each (K,)."""
        self.waiting[lanes] = 0.0
        self._repeated[lanes] = parameters["retry_ratio"]
        self._due[lanes] = 1.0 / parameters["retry_delay_s"]

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Put every lane into the state of its leader (N,)."""
        self.waiting[:] = self.waiting[leader]

    def take(self) -> NDArray[np.float32]:
        """Attempts that come again in this second (N,)."""
        due = self.waiting * self._due
        self.waiting -= due
        return due

    def add(self, failed: NDArray[np.float32]) -> None:
        """Some of the failed attempts (N,) will be repeated."""
        self.waiting += failed * self._repeated


class Demand(NamedTuple):
    """T seconds of N lanes."""

    fresh: NDArray[np.float32]
    """New requests (T, N)."""
    speed: NDArray[np.float32]
    """Sum of the ready pods' speeds (T, N)."""
    ready: NDArray[np.float32]
    """Ready pods (T, N)."""
    each: Callable[[int], NDArray[np.float32]]
    """Asked for a second, the speed of each pod then (N, P); 0 where none is ready."""
    retries: Retries
    """Where failed attempts go, and come from again."""
    age_s: NDArray[np.int64]
    """Lane time at the first second (N,)."""


class Served(NamedTuple):
    """What became of it, by second and lane (T, N)."""

    violations: NDArray[np.float32]
    """New requests that came in this second and were slow or failed."""
    failed: NDArray[np.float32]
    """Attempts that timed out or were refused."""
    completed: NDArray[np.float32]
    """Attempts answered in time for the client."""
    buckets: NDArray[np.float32]
    """Completed attempts at most as slow as each bound (T, BUCKETS, N)."""
    busy: NDArray[np.float32]
    """Pod-seconds spent on requests, at most the ready pods."""
    contention: NDArray[np.float32]
    """Share of the requests that competed with others for their pod."""
    in_flight: NDArray[np.float32]
    """Requests waiting or in service at the end of the second."""


class ServiceModel(Protocol):
    """How ready pods answer requests."""

    def reset(
        self,
        lanes: NDArray[np.int64],
        seed: NDArray[np.uint64],
        parameters: dict[str, NDArray[np.float64]],
    ) -> None:
        """Forget what the lanes (K,) held and take their parameters, each (K,)."""
        ...

    def serve(self, demand: Demand) -> Served:
        """Let some seconds pass."""
        ...

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Put every lane into the state of its leader (N,)."""
        ...

    def drop(
        self, lanes: NDArray[np.int64], slot: NDArray[np.int64], ready: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """A pod of each lane (K,) is killed, one of so many ready; how many requests it loses."""
        ...
