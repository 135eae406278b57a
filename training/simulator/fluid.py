"""The fast engine: one shared queue per lane, in eighths of a second, for all lanes at once.

Requests of a second come as a whole number, and are spread over its slots as that many independent
uniform times would be: exactly for few requests, normally distributed for many. The unfinished
work V then follows Lindley's recursion, V <- max(0, V + work - capacity), and a request that comes
to V waits V / capacity. Slow requests thus emerge from overload and from chance, on every time
scale from an eighth of a second up. What a slot hides is shorter than the waits that decide.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.simulator.draws import Purpose, hashed, triangular
from training.simulator.service import BUCKETS, Demand, Served

SLOTS: Final = 8
"""Slots in a second."""
_FEW: Final = 32
"""Up to so many requests in a second are spread exactly."""
_EXACT: Final = 128
_NORMAL: Final = 4096
_TABLE_SEED: Final = 20240611
_NO_SPEED: Final = np.float32(1e-3)


def split_table() -> NDArray[np.float32]:
    """How requests of one second fall into slots: (SLOTS, columns).

    Columns [n * _EXACT, (n + 1) * _EXACT) hold multinomial counts of n requests; the last `_NORMAL`
    hold normal deviations of unit variance that sum to 0 over the slots.
    """
    rng = np.random.default_rng(_TABLE_SEED)
    even = np.full(SLOTS, 1.0 / SLOTS)
    counts = [rng.multinomial(n, even, size=_EXACT) for n in range(_FEW)]
    deviations = rng.standard_normal((_NORMAL, SLOTS))
    deviations -= deviations.mean(axis=1, keepdims=True)
    rows = np.concatenate([*counts, deviations])
    return np.ascontiguousarray(rows.T, dtype=np.float32)


class FluidQueue:
    """Service model of the fast engine; see the module for its idea."""

    def __init__(self, lanes: int, latency_s: float) -> None:
        self._latency_s = latency_s
        self._table = split_table()
        self._backlog = np.zeros(lanes, dtype=np.float32)
        self._retry = np.zeros(lanes, dtype=np.float32)
        self._seed = np.zeros(lanes, dtype=np.uint64)
        names = ("service", "fast", "slow", "timeout", "wasted", "limit", "clump")
        self._p = {name: np.ones(lanes, dtype=np.float32) for name in names}

    def reset(
        self,
        lanes: NDArray[np.int64],
        seed: NDArray[np.uint64],
        parameters: dict[str, NDArray[np.float64]],
    ) -> None:
        """Start empty."""
        mean = parameters["service_time_s"]
        cv = np.hypot(parameters["service_cv"], parameters["pod_speed_cv"])
        half = np.minimum(np.sqrt(3.0) * cv, 0.95)
        self._backlog[lanes] = 0.0
        self._seed[lanes] = seed
        self._p["service"][lanes] = mean
        self._p["fast"][lanes] = mean * (1.0 - half)
        self._p["slow"][lanes] = mean * (1.0 + half)
        self._p["timeout"][lanes] = parameters["timeout_s"]
        self._p["wasted"][lanes] = parameters["wasted_ratio"]
        self._p["limit"][lanes] = parameters["backlog_per_pod"]
        self._p["clump"][lanes] = np.sqrt(1.0 + parameters["service_cv"] ** 2)

    def drop(self, lanes: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lose a share of the backlog."""
        lost: NDArray[np.float64] = self._backlog[lanes] * share
        self._backlog[lanes] -= lost
        return lost

    def serve(self, demand: Demand, age_s: NDArray[np.int64]) -> Served:
        """Let one second pass; see `Served`."""
        p = self._p
        rate = np.maximum(demand.speed, _NO_SPEED) / p["service"]
        attempts = demand.fresh + demand.retried
        start = self._backlog
        doomed = start > p["timeout"] * rate
        effective = np.where(doomed, p["wasted"], np.float32(1.0))
        mean, scale, column = self._spread(demand.fresh, age_s)
        mean = mean + demand.retried * np.float32(1.0 / SLOTS)
        capacity = rate * np.float32(1.0 / SLOTS)
        mean *= effective
        scale *= effective
        # A request waits at most as long as the limit in slow + spread; beyond it, it violates.
        span = 1.0 / (p["slow"] - p["fast"])
        tolerated = (self._latency_s - p["slow"]) * rate
        gain = span / rate
        backlog = start.copy()
        late = np.zeros_like(start)
        waited = np.zeros_like(start)
        contended = np.zeros_like(start)
        for slot in range(SLOTS):
            work = np.take(self._table[slot], column, mode="clip")
            work *= scale
            work += mean
            middle = backlog * np.float32(0.5)
            backlog += work
            backlog -= capacity
            np.maximum(backlog, 0.0, out=backlog)
            middle += backlog * np.float32(0.5)
            waited += middle
            contended += backlog > 0.0
            middle -= tolerated
            middle *= gain
            np.maximum(middle, 0.0, out=middle)
            np.minimum(middle, 1.0, out=middle)
            middle *= work
            late += middle
        limit = p["limit"] * np.maximum(demand.ready, 1.0)
        refused = np.maximum(backlog - limit, 0.0)
        backlog -= refused
        total_work = attempts * effective
        done = np.maximum(start + total_work - refused - backlog, 0.0)
        failed = np.where(doomed, attempts, np.minimum(refused, attempts))
        wait_s = waited * np.float32(1.0 / SLOTS) / rate
        good = np.where(doomed, np.float32(0.0), done)
        late_share = np.where(
            doomed, 1.0, np.minimum(np.maximum(late, 0.0) / np.maximum(total_work, 1e-6), 1.0)
        )
        self._backlog = backlog
        busy = np.minimum(done / rate, 1.0) * demand.ready
        return Served(
            violations=np.asarray(demand.fresh * late_share, dtype=np.float32),
            failed=failed,
            completed=good,
            buckets=self._buckets(wait_s, good),
            busy=busy,
            contention=contended * np.float32(1.0 / SLOTS),
            in_flight=backlog + self._in_service(done * p["service"], age_s),
        )

    def _in_service(
        self, mean: NDArray[np.float32], age_s: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Requests in service at the one moment that a gauge is read.

        The mean over a second would tell a policy the load of that second without noise; a moment
        finds a Poisson number around it.
        """
        noise = triangular(self._seed, age_s.astype(np.uint64), Purpose.IN_FLIGHT)
        count: NDArray[np.float32] = np.maximum(mean + np.sqrt(mean) * noise.astype(np.float32), 0)
        return count

    def _spread(
        self, fresh: NDArray[np.float32], age_s: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Mean and scale of a slot's work, and the column of the table that disturbs it."""
        bits = hashed(self._seed, age_s.astype(np.uint64), Purpose.SPLIT)
        few = fresh < _FEW
        exact = (fresh * _EXACT).astype(np.int64) + (bits & np.uint64(_EXACT - 1)).astype(np.int64)
        normal = _FEW * _EXACT + (bits & np.uint64(_NORMAL - 1)).astype(np.int64)
        even = fresh * np.float32(1.0 / SLOTS)
        mean = np.where(few, np.float32(0.0), even)
        scale = np.where(few, np.float32(1.0), np.sqrt(even) * self._p["clump"])
        return mean, scale, np.where(few, exact, normal)

    def _buckets(
        self, wait_s: NDArray[np.float32], completed: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Completed attempts at most as slow as each bound, service times being uniform."""
        span = 1.0 / (self._p["slow"] - self._p["fast"])
        share = (BUCKETS[:, None].astype(np.float32) - (wait_s + self._p["fast"])) * span
        np.maximum(share, 0.0, out=share)
        np.minimum(share, 1.0, out=share)
        share *= completed
        return np.asarray(share, dtype=np.float32)
