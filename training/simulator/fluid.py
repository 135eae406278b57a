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

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.simulator.draws import Purpose, hashed
from training.simulator.service import BUCKETS, CONTENDED, Demand, Served
from training.simulator.tail import Floats, Steady, Tail

MEMORY_S: Final = 15.0
"""Time constant over which the utilization is averaged. Shorter ones let the noise of counting
raise the mean of the convex tail above the event engine's."""
_TABLE: Final = 1024
"""Entries of each table of chance."""
_NO_SPEED: Final = np.float32(1e-3)
_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)


class _Flow(NamedTuple):
    """What the recursion leaves behind, by second and lane (T, N)."""

    recent: Floats
    """Attempts a second, averaged."""
    failed: Floats
    backlog: Floats
    wait_s: Floats
    done: Floats
    doomed: NDArray[np.bool_]
    """Whoever comes now gives up before being served."""


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

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Put every lane into the state of its leader (N,); parameters are equal already."""
        for state in (self._backlog, self._recent, self._begins):
            state[:] = state[leader]

    def drop(
        self, lanes: NDArray[np.int64], slot: NDArray[np.int64], ready: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Lose the killed pod's share of the backlog."""
        del slot
        lost: NDArray[np.float64] = self._backlog[lanes] / ready
        self._backlog[lanes] -= lost
        return lost

    def serve(self, demand: Demand) -> Served:
        """Let some seconds pass; see `Served`."""
        rate = np.divide(
            np.maximum(demand.speed, _NO_SPEED), self._tail.service_s, dtype=np.float32
        )  # (T, N)
        flow = self._flow(demand, rate)
        used = np.divide(flow.recent, rate, dtype=np.float32)
        steady = self._tail.steady(used, demand.ready)
        clump, moment = self._chance(demand.age_s, len(rate))
        slower = self._tail.slower(
            self._bounds,
            flow.wait_s[:, None, :],
            Steady(steady.level[:, None, :], steady.slope[:, None, :]),
            clump[:, None, :],
        )  # (T, 2 + BUCKETS, N)
        completed = np.where(flow.doomed, _ZERO, flow.done)
        buckets = slower[:, 2:]
        np.subtract(_ONE, buckets, out=buckets)
        buckets *= completed[:, None, :]
        serving = flow.done * self._tail.service_s
        return Served(
            violations=demand.fresh * np.where(flow.doomed, _ONE, slower[:, 0]),
            failed=flow.failed,
            completed=completed,
            buckets=buckets,
            busy=np.minimum(flow.done / rate, _ONE) * demand.ready,
            contention=slower[:, 1],
            in_flight=flow.backlog + np.maximum(serving + moment * np.sqrt(serving), _ZERO),
        )

    def _flow(self, demand: Demand, rate: Floats) -> _Flow:
        """The backlog, second after second."""
        flow = _Flow(
            recent=np.empty_like(rate),
            failed=np.empty_like(rate),
            backlog=np.empty_like(rate),
            wait_s=np.empty_like(rate),
            done=np.empty_like(rate),
            doomed=np.empty(rate.shape, dtype=np.bool_),
        )
        patience = self._timeout_s * rate
        limit = self._limit * np.maximum(demand.ready, _ONE)
        half = np.float32(0.5) / rate
        for second, fresh in enumerate(demand.fresh):
            attempts = fresh + demand.retries.take()
            if self._begins.any():
                self._recent = np.where(self._begins, attempts, self._recent)
                self._begins[:] = False
            self._recent += (attempts - self._recent) * np.float32(1.0 / MEMORY_S)
            start = self._backlog
            doomed = np.greater(start, patience[second], out=flow.doomed[second])
            work = start + np.where(doomed, self._wasted, _ONE) * attempts
            end = np.maximum(work - rate[second], _ZERO)
            refused = np.maximum(end - limit[second], _ZERO)
            end -= refused
            failed = np.where(doomed, attempts, np.minimum(refused, attempts))
            demand.retries.add(failed)
            flow.recent[second] = self._recent
            flow.failed[second] = failed
            flow.backlog[second] = end
            np.multiply(start + end, half[second], out=flow.wait_s[second])
            work -= refused
            np.subtract(work, end, out=flow.done[second])
            self._backlog = end
        np.maximum(flow.done, _ZERO, out=flow.done)
        return flow

    def _chance(self, age_s: NDArray[np.int64], seconds: int) -> tuple[Floats, Floats]:
        """Two kinds of chance, anew each second, (T, N).

        Slow requests come together: a factor, exponential with mean 1. And a gauge is read at one
        moment, which finds a Poisson number of requests in service around their mean: a normal
        deviation. Without it the gauge would tell the load of the second without noise.
        """
        ages = (age_s + np.arange(seconds)[:, None]).astype(np.uint64)
        bits = hashed(self._seed, ages, Purpose.CHANCE)
        mask = np.uint64(_TABLE - 1)
        clump = self._clumps[bits & mask]
        moment = self._moments[(bits >> np.uint64(32)) & mask]
        return np.asarray(clump), np.asarray(moment)
