"""The clairvoyant oracle: what the same ±2 steps could have cost, all arrivals known beforehand.

Backward induction over the replica count. The price of an interval is its pod time plus a
multiplier times its expected violations under the fast engine's own formulas, with the arrivals
that will come and the start-up delay of new pods. Swept over the multiplier it traces the floor of
cost at each violation share; no policy that has to guess can be expected below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES
from training.objective import Objective
from training.simulator.arrivals import arrivals_of
from training.simulator.fluid import MEMORY_S
from training.simulator.interface import Observation
from training.simulator.tail import Floats, Tail
from training.simulator.workload import Episode

_CHUNK: Final = 256
_NO_CLUMP: Final = np.float32(1.0)


class Pricing(NamedTuple):
    """Expected violations of every interval, previous count and action."""

    late: Floats
    """(T, P, A): of P = 1 … max replicas before, and A actions."""
    first: int
    """Replicas when the episode begins."""


def price(
    episode: Episode,
    first: int,
    parameters: dict[str, float],
    objective: Objective,
) -> Pricing:
    """What each action would violate in each interval of an episode.

    Args:
        episode: Its arrivals are looked up.
        first: Replicas at its start.
        parameters: The lane's parameters.
        objective: Limit, interval and bounds.
    """
    arrivals = arrivals_of(episode, parameters["service_time_s"], objective.interval_s)  # (T, S)
    recent = _recent(arrivals)  # (T, S)
    before = np.arange(1, objective.max_replicas + 1, dtype=np.float32)
    after = np.clip(before[:, None] + CHANGES, 1, objective.max_replicas)  # (P, A)
    tail = Tail(1)
    tail.set(np.array([0]), {name: np.array([value]) for name, value in parameters.items()})
    model = _Interval(tail, before[:, None], after.astype(np.float32), parameters, objective)
    parts = [
        model.late(arrivals[start : start + _CHUNK], recent[start : start + _CHUNK])
        for start in range(0, len(arrivals), _CHUNK)
    ]
    return Pricing(np.concatenate(parts), first)


def plan(
    pricing: Pricing,
    multiplier: float,
    objective: Objective,
    *,
    lead: int = 0,
    drain_s: float = 0.0,
) -> NDArray[np.int64]:
    """The cheapest replica counts (T,), by backward induction.

    Args:
        pricing: What each choice violates.
        multiplier: Pod-seconds that one violating request is worth.
        objective: Bounds and interval.
        lead: Whole intervals that a pod starts before it is needed.
        drain_s: Paid for each removed pod.
    """
    low, high = objective.min_replicas, objective.max_replicas
    before = np.arange(1, high + 1)
    after = before[:, None] + CHANGES  # (P, A)
    legal = (after >= low) & (after <= high)
    index = np.clip(after, 1, high) - 1
    pods = index + 1.0
    fixed = pods * objective.interval_s + np.maximum(-CHANGES, 0) * drain_s  # (P, A)
    fixed = np.where(legal, fixed, np.inf)
    steps = len(pricing.late)
    best = np.zeros((steps, high), dtype=np.int64)
    value = np.zeros(high)
    for t in range(steps - 1, -1, -1):
        total = fixed + multiplier * pricing.late[t] + value[index]  # (P, A)
        best[t] = np.argmin(total, axis=1)
        value = np.take_along_axis(total, best[t][:, None], axis=1)[:, 0]
    chosen = np.empty(steps, dtype=np.int64)
    now = pricing.first
    for t in range(steps):
        now = int(after[now - 1, best[t, now - 1]])
        chosen[t] = now
    ahead = [np.append(chosen[shift:], np.full(shift, chosen[-1])) for shift in range(lead + 1)]
    return np.asarray(np.max(ahead, axis=0), dtype=np.int64)


class Oracle:
    """Plays a plan that was made for each lane's episode."""

    name = "oracle"

    def __init__(self, plans: Sequence[NDArray[np.int64]], interval_s: int) -> None:
        self._plans = list(plans)
        self._interval_s = interval_s

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        step = observation.time_s // self._interval_s
        return np.array(
            [
                course[min(int(step[lane]), len(course) - 1)]
                for lane, course in enumerate(self._plans)
            ],
            dtype=np.int64,
        )


class _Interval:
    """Violations of one interval for all previous counts and actions at once."""

    def __init__(
        self,
        tail: Tail,
        before: Floats,
        after: Floats,
        parameters: dict[str, float],
        objective: Objective,
    ) -> None:
        self._tail = tail
        self._latency_s = np.float32(objective.latency_s)
        self._rate_each = np.float32(1.0 / parameters["service_time_s"])
        old = np.minimum(before, after)
        new = after - old
        startup = parameters["startup_s"] % objective.interval_s
        warm = startup + parameters["warm_s"]
        cold = np.float32(parameters["warm_speed_ratio"])
        self._seconds = []
        for second in range(objective.interval_s):
            up = second + 0.5 >= startup
            speed = 0.0 if not up else cold if second + 0.5 < warm else 1.0
            self._seconds.append((old + new * np.float32(speed), old + new * up))

    def late(self, arrivals: Floats, recent: Floats) -> Floats:
        """Violations (t, P, A) of intervals (t, S), each begun without a backlog."""
        shape = (len(arrivals), *self._seconds[0][0].shape)
        total = np.zeros(shape, dtype=np.float32)
        backlog = np.zeros(shape, dtype=np.float32)
        for second, (speed, ready) in enumerate(self._seconds):
            rate = (speed * self._rate_each).astype(np.float32)
            count = arrivals[:, second, None, None]
            used = recent[:, second, None, None] / rate
            end = np.maximum(backlog + count - rate, 0.0)
            wait = (backlog + end) * np.float32(0.5) / rate
            steady = self._tail.steady(used, np.broadcast_to(ready, used.shape))
            total += count * self._tail.slower(self._latency_s, wait, steady, _NO_CLUMP)
            backlog = end
        # What is left waiting will be late, or make others late.
        return total + backlog


def _recent(arrivals: Floats) -> Floats:
    """Arrivals averaged as the fast engine averages them (T, S)."""
    flat = arrivals.ravel().astype(np.float64)
    keep = 1.0 - 1.0 / MEMORY_S
    averaged = np.empty_like(flat)
    last = flat[0]
    for index, count in enumerate(flat.tolist()):
        last = keep * last + count / MEMORY_S
        averaged[index] = last
    return averaged.reshape(arrivals.shape).astype(np.float32)
