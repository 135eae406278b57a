"""The true counters and gauges of every lane, second by second; what scrapes will sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.simulator.metrics import ROWS, History, Series
from training.simulator.service import BUCKETS, Demand, Served


class Ledger:
    """Counters since the lane began, and gauges of the last second, of N lanes."""

    def __init__(self, lanes: int) -> None:
        self.totals = np.zeros((ROWS, lanes))
        self._share = np.ones(lanes, dtype=np.float32)
        self._idle = np.zeros(lanes, dtype=np.float32)
        self._throttling = np.zeros(lanes, dtype=np.float32)

    def reset(
        self,
        lanes: NDArray[np.int64],
        steady: NDArray[np.float64],
        parameters: dict[str, NDArray[np.float64]],
    ) -> None:
        """Start lanes (K,) with the gauges of a steady state (ROWS, K)."""
        self.totals[:, lanes] = 0.0
        self.totals[Series.IN_FLIGHT, lanes] = steady[Series.IN_FLIGHT]
        self._share[lanes] = parameters["cpu_share_ratio"]
        self._idle[lanes] = parameters["idle_cpu_ratio"]
        self._throttling[lanes] = parameters["throttling_gain"]

    def record(
        self,
        demand: Demand,
        served: Served,
        pods: NDArray[np.int64],
        history: History,
        now: int,
    ) -> None:
        """Enter T seconds, the first of which began at `now`, and keep each in the history."""
        busy = served.busy / np.maximum(demand.ready, np.float32(1.0))
        cpu = busy * self._share + self._idle
        throttled = served.contention * busy * self._throttling
        totals = self.totals
        totals[Series.PODS] = pods
        for second in range(len(busy)):
            totals[Series.COMPLETED] += served.completed[second]
            totals[Series.FAILED] += served.failed[second]
            totals[Series.CPU] += cpu[second]
            totals[Series.THROTTLED] += throttled[second]
            totals[Series.IN_FLIGHT] = served.in_flight[second]
            totals[Series.READY] = demand.ready[second]
            totals[Series.BUCKET :] += served.buckets[second]
            history.row(now + second + 1)[:] = totals

    def in_flight_per_pod(self) -> NDArray[np.float64]:
        """Requests in flight for each ready pod (N,)."""
        ready = np.maximum(self.totals[Series.READY], 1.0)
        each: NDArray[np.float64] = self.totals[Series.IN_FLIGHT] / ready
        return each


def steady_state(
    busy: NDArray[np.float64],
    replicas: NDArray[np.int64],
    parameters: dict[str, NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Counters per second and gauges (ROWS, K) of lanes that have long served a constant load.

    Args:
        busy: Busy pods (K,).
        replicas: Ready pods (K,).
        parameters: Each (K,).
    """
    steady = np.zeros((ROWS, len(busy)))
    working = np.minimum(busy, replicas)
    steady[Series.COMPLETED] = working / parameters["service_time_s"]
    steady[Series.CPU] = (
        working / replicas * parameters["cpu_share_ratio"] + parameters["idle_cpu_ratio"]
    )
    steady[Series.IN_FLIGHT] = working
    steady[Series.READY] = replicas
    steady[Series.PODS] = replicas
    mean = parameters["service_time_s"]
    half = np.minimum(np.sqrt(3.0) * parameters["service_cv"], 0.95) * mean
    share = (BUCKETS[:, None] - (mean - half)) / np.maximum(2.0 * half, 1e-9)
    steady[Series.BUCKET :] = steady[Series.COMPLETED] * np.clip(share, 0.0, 1.0)
    return steady
