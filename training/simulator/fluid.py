"""The fast engine: queueing formulas for chance, a tracked backlog for overload, second by second.

Two things make requests slow. Chance: even below capacity requests meet. How often depends on the
pods that share the load and on their utilization, and settles within a second or a few, so the
steady-state tail of the response time at the utilization of the last seconds describes it (`tail`).
Overload: what comes above capacity waits. A backlog V <- max(0, V + arrivals - capacity) is carried
from second to second, and a request that comes to V waits V / capacity longer.

Arrivals are whole and Poisson, the utilization is that of the arrivals that came (not of their true
rate), and slow requests come in clumps: a policy sees nothing smoother than a real service shows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.simulator.draws import Purpose, hashed
from training.simulator.service import BUCKETS, CONTENDED, Demand, Served
from training.simulator.tail import Floats, Tail

MEMORY_S: Final = 15.0
"""Time constant over which the utilization is averaged. Shorter ones let the noise of counting
raise the mean of the convex tail above the event engine's."""
_TABLE: Final = 1024
"""Entries of each table of chance."""
_NO_SPEED: Final = np.float32(1e-3)
_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)


class FluidQueue:
    """Service model of the fast engine; see the module for its idea."""

    def __init__(self, lanes: int, latency_s: float) -> None:
        # Of the objective, of contention, and of the histogram, (2 + BUCKETS, N).
        bounds = np.concatenate([[latency_s, 0.0], BUCKETS]).astype(np.float32)
        self._bounds = np.repeat(bounds[:, None], lanes, axis=1)
        rng = np.random.default_rng(_TABLE)
        self._clumps = rng.exponential(size=_TABLE).astype(np.float32)
        self._moments = rng.standard_normal(_TABLE, dtype=np.float32)
        self._tail = Tail(lanes)
        self._seed = np.zeros(lanes, dtype=np.uint64)
        self._backlog = np.zeros(lanes, dtype=np.float32)
        self._recent = np.zeros(lanes, dtype=np.float32)
        self._begins = np.ones(lanes, dtype=np.bool_)
        self._timeout_s = np.ones(lanes, dtype=np.float32)
        self._wasted = np.ones(lanes, dtype=np.float32)
        self._limit = np.ones(lanes, dtype=np.float32)

    def reset(
        self,
        lanes: NDArray[np.int64],
        seed: NDArray[np.uint64],
        parameters: dict[str, NDArray[np.float64]],
    ) -> None:
        """Start empty."""
        self._tail.set(lanes, parameters)
        self._bounds[1, lanes] = CONTENDED * parameters["service_time_s"]
        self._seed[lanes] = seed
        self._backlog[lanes] = 0.0
        self._begins[lanes] = True
        self._timeout_s[lanes] = parameters["timeout_s"]
        self._wasted[lanes] = parameters["wasted_ratio"]
        self._limit[lanes] = parameters["backlog_per_pod"]

    def drop(
        self, lanes: NDArray[np.int64], slot: NDArray[np.int64], ready: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Lose the killed pod's share of the backlog."""
        del slot
        lost: NDArray[np.float64] = self._backlog[lanes] / ready
        self._backlog[lanes] -= lost
        return lost

    def serve(self, demand: Demand, age_s: NDArray[np.int64]) -> Served:
        """Let one second pass; see `Served`."""
        rate = np.divide(
            np.maximum(demand.speed, _NO_SPEED), self._tail.service_s, dtype=np.float32
        )
        attempts = demand.fresh + demand.retried
        start = self._backlog
        doomed = start > self._timeout_s * rate
        work = np.where(doomed, self._wasted, _ONE) * attempts
        end = np.maximum(start + work - rate, _ZERO)
        refused = np.maximum(end - self._limit * np.maximum(demand.ready, _ONE), _ZERO)
        end -= refused
        done = np.maximum(start + work - refused - end, _ZERO)
        self._backlog = end
        wait_s = (start + end) * np.float32(0.5) / rate
        steady = self._tail.steady(self._utilization(attempts, rate), demand.ready)
        clump, moment = self._chance(age_s)
        slower = self._tail.slower(self._bounds, wait_s, steady, clump)  # (2 + BUCKETS, N)
        completed = np.where(doomed, _ZERO, done)
        slower[2:] *= -completed
        slower[2:] += completed
        serving = done * self._tail.service_s
        return Served(
            violations=demand.fresh * np.where(doomed, _ONE, slower[0]),
            failed=np.where(doomed, attempts, np.minimum(refused, attempts)),
            completed=completed,
            buckets=slower[2:],
            busy=np.minimum(done / rate, _ONE) * demand.ready,
            contention=slower[1],
            in_flight=end + np.maximum(serving + moment * np.sqrt(serving), _ZERO),
        )

    def _utilization(self, attempts: Floats, rate: Floats) -> Floats:
        """Recent requests over capacity."""
        if self._begins.any():
            self._recent = np.where(self._begins, attempts, self._recent)
            self._begins[:] = False
        self._recent += (attempts - self._recent) * np.float32(1.0 / MEMORY_S)
        return self._recent / rate

    def _chance(self, age_s: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Two kinds of chance, anew each second.

        Slow requests come together: a factor, exponential with mean 1. And a gauge is read at one
        moment, which finds a Poisson number of requests in service around their mean: a normal
        deviation. Without it the gauge would tell the load of the second without noise.
        """
        bits = hashed(self._seed, age_s.astype(np.uint64), Purpose.CHANCE)
        mask = np.uint64(_TABLE - 1)
        clump = self._clumps[bits & mask]
        moment = self._moments[(bits >> np.uint64(32)) & mask]
        return np.asarray(clump), np.asarray(moment)
