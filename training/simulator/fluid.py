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
from training.simulator.service import BUCKETS, Demand, Served

Floats = NDArray[np.float32]

_MEMORY_S: Final = 15.0
"""Seconds over which the utilization is averaged; about the time in which a queue settles."""
_HIGHEST: Final = np.float32(0.97)
"""Above this utilization a queue does not settle within seconds; the backlog describes it."""
_MOST_PODS: Final = 512
_TABLE: Final = 1024
"""Entries of each table of chance."""
_NO_SPEED: Final = np.float32(1e-3)


class TailTable(NamedTuple):
    """Constants of the steady-state tail for each number of pods; index 0 stands for 1 pod."""

    power: Floats
    decay: Floats
    offset: Floats
    """Decay times the response, in service times, from which the tail falls."""


def shared_queue_tail(pods: NDArray[np.float64], service_cv: float) -> TailTable:
    """One queue before all pods: P(wait) by Sakasegawa, its decay by Kingman.

    Source: H. Sakasegawa, "An approximation formula L_q = a rho^b / (1 - rho)", 1977; J. Kingman,
    "The single server queue in heavy traffic", 1961. The offset is fitted to the event engine.
    """
    decay = 2.1 * pods / (1.0 + service_cv**2)
    power = np.sqrt(2.0 * (pods + 1.0)) - 1.0
    return _table(power, decay, 1.15 * decay)


def sharing_pods_tail(pods: NDArray[np.float64]) -> TailTable:
    """Least-connections balancing over processor-sharing pods.

    No closed form is known; powers of the pods fitted to 200,000 requests of the event engine at
    each of 95 pairs of pods and utilization.
    """
    decay = 1.25 * pods**0.84
    return _table(1.47 * pods**0.81, decay, 2.0 * decay)


def _table(
    power: NDArray[np.float64], decay: NDArray[np.float64], offset: NDArray[np.float64]
) -> TailTable:
    return TailTable(*(column.astype(np.float32) for column in (power, decay, offset)))


class _Steady(NamedTuple):
    """The logarithm of the tail is `level` - `slope` x response time."""

    level: Floats
    slope: Floats


class FluidQueue:
    """Service model of the fast engine; see the module for its idea."""

    def __init__(self, lanes: int, latency_s: float) -> None:
        self._latency_s = np.float32(latency_s)
        self._bounds = BUCKETS.astype(np.float32)[:, None]
        pods = np.maximum(np.arange(_MOST_PODS, dtype=np.float64), 1.0)
        # The spread of the service times enters the lanes' decay below.
        self._shared = shared_queue_tail(pods, 0.0)
        self._sharing = sharing_pods_tail(pods)
        rng = np.random.default_rng(_TABLE)
        self._clumps = rng.exponential(size=_TABLE).astype(np.float32)
        self._moments = rng.standard_normal(_TABLE, dtype=np.float32)
        self._backlog = np.zeros(lanes, dtype=np.float32)
        self._recent = np.zeros(lanes, dtype=np.float32)
        self._seed = np.zeros(lanes, dtype=np.uint64)
        names = ("service", "slow", "span", "timeout", "wasted", "limit", "sharing", "regular")
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
        self._recent[lanes] = np.nan
        self._seed[lanes] = seed
        self._p["service"][lanes] = mean
        self._p["slow"][lanes] = mean * (1.0 + half)
        self._p["span"][lanes] = -1.0 / (2.0 * mean * half)
        self._p["timeout"][lanes] = parameters["timeout_s"]
        self._p["wasted"][lanes] = parameters["wasted_ratio"]
        self._p["limit"][lanes] = parameters["backlog_per_pod"]
        self._p["sharing"][lanes] = parameters["sharing_ratio"]
        self._p["regular"][lanes] = 1.0 / (1.0 + parameters["service_cv"] ** 2)

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
        p = self._p
        rate = np.divide(np.maximum(demand.speed, _NO_SPEED), p["service"], dtype=np.float32)
        attempts = demand.fresh + demand.retried
        start = self._backlog
        doomed = start > p["timeout"] * rate
        work = np.where(doomed, p["wasted"], np.float32(1.0)) * attempts
        end = np.maximum(start + work - rate, np.float32(0.0))
        limit = p["limit"] * np.maximum(demand.ready, np.float32(1.0))
        refused = np.maximum(end - limit, np.float32(0.0))
        end -= refused
        done = np.maximum(start + work - refused - end, np.float32(0.0))
        self._backlog = end
        steady = self._steady(attempts, rate, demand.ready)
        wait = (start + end) * np.float32(0.5) / rate
        clump, moment = self._chance(age_s)
        serving = done * p["service"]
        late = self._slower(self._latency_s, wait, steady, clump)
        failed = np.where(doomed, attempts, np.minimum(refused, attempts))
        completed = np.where(doomed, np.float32(0.0), done)
        buckets = completed - completed * self._slower(self._bounds, wait, steady, clump)
        busy = np.minimum(done / rate, np.float32(1.0))
        return Served(
            violations=demand.fresh * np.where(doomed, np.float32(1.0), late),
            failed=failed,
            completed=completed,
            buckets=buckets,
            busy=busy * demand.ready,
            contention=np.exp(np.minimum(steady.level, np.float32(0.0))),
            in_flight=end + np.maximum(serving + moment * np.sqrt(serving), np.float32(0.0)),
        )

    def _steady(self, attempts: Floats, rate: Floats, ready: Floats) -> _Steady:
        """The tail at the utilization of the last seconds."""
        p = self._p
        fresh = np.isnan(self._recent)
        if fresh.any():
            self._recent = np.where(fresh, attempts, self._recent)
        self._recent += (attempts - self._recent) * np.float32(1.0 / _MEMORY_S)
        used = np.minimum(self._recent / rate, _HIGHEST)
        pods = np.minimum(ready.astype(np.int64), _MOST_PODS - 1)
        one, many, share = self._shared, self._sharing, p["sharing"]
        regular = p["regular"] * (np.float32(1.0) - share)
        power = one.power[pods] * (np.float32(1.0) - share) + many.power[pods] * share
        decay = one.decay[pods] * regular + many.decay[pods] * share
        offset = one.offset[pods] * regular + many.offset[pods] * share
        idle = np.float32(1.0) - used
        level = power * np.log(np.maximum(used, np.float32(1e-6))) + idle * offset
        return _Steady(level, idle * decay / p["service"])

    def _slower(
        self, bound: np.float32 | Floats, wait: Floats, steady: _Steady, clump: Floats
    ) -> Floats:
        """Share of the requests slower than a bound, (N,) or (BUCKETS, N)."""
        left: Floats = bound - wait
        chance = left * steady.slope
        np.subtract(steady.level, chance, out=chance)
        np.minimum(chance, np.float32(0.0), out=chance)
        np.exp(chance, out=chance)
        chance *= clump
        # Without queueing a request takes its service time, taken as uniform around its mean.
        left -= self._p["slow"]
        left *= self._p["span"]
        np.maximum(left, chance, out=left)
        np.minimum(left, np.float32(1.0), out=left)
        return left

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
