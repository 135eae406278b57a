"""What a service model is given each second and what it tells back; shared by both engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BUCKETS: Final = np.array([0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
"""Upper bounds of the latency histogram, seconds: those of the Prometheus clients, 25 ms to 5 s."""


CONTENDED: Final = np.float32(1.5)
"""A request that takes so many times the mean service time has competed for its pod."""


class Demand(NamedTuple):
    """One second of N lanes."""

    fresh: NDArray[np.float32]
    """New requests (N,)."""
    retried: NDArray[np.float32]
    """Repeated requests (N,)."""
    speed: NDArray[np.float32]
    """Sum of the ready pods' speeds (N,)."""
    ready: NDArray[np.float32]
    """Ready pods (N,)."""
    each: Callable[[], NDArray[np.float32]]
    """Asked for, the speed of each pod (N, P); 0 where none is ready."""


class Served(NamedTuple):
    """What became of it, by lane (N,)."""

    violations: NDArray[np.float32]
    """New requests that came in this second and were slow or failed."""
    failed: NDArray[np.float32]
    """Attempts that timed out or were refused."""
    completed: NDArray[np.float32]
    """Attempts answered in time for the client."""
    buckets: NDArray[np.float32]
    """Completed attempts at most as slow as each bound (BUCKETS, N)."""
    busy: NDArray[np.float32]
    """Pod-seconds spent on requests, at most the ready pods."""
    contention: NDArray[np.float32]
    """Share of the requests that competed with others for their pod."""
    in_flight: NDArray[np.float32]
    """Requests waiting or in service at the end."""


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

    def serve(self, demand: Demand, age_s: NDArray[np.int64]) -> Served:
        """Let one second pass."""
        ...

    def drop(
        self, lanes: NDArray[np.int64], slot: NDArray[np.int64], ready: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """A pod of each lane (K,) is killed, one of so many ready; how many requests it loses."""
        ...
