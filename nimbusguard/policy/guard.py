"""The guard rails around a recommended action: what the operator does with it, and why.

A network may add replicas freely; it may remove them only as far as the rule of the Kubernetes HPA,
over its stabilization window, does not object. The same code runs in the operator, with one row,
and in training, with thousands of rows, so that a policy is trained and judged inside the rails
that it will be run in. The network has no memory; the guard's tells a rough workload from a smooth
one, and keeps in reserve what a load as rough as it has been may want next. Pure: the memory
between two decisions is a value that goes in and comes out, and `now_s` is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX
from nimbusguard.policy.reserve import Held, ReserveSettings, carried_by, hold, needed
from nimbusguard.policy.roughness import UNKNOWN, Watched, watch
from nimbusguard.policy.trend import Trend, follow, rise, unknown

_CPU = INDEX["cpu_utilization"]
_RATE = INDEX["request_rate"]
_PODS = INDEX["pod_count"]
_QUEUE = INDEX["queue_depth"]
# Fewer requests in an interval than this say more of chance and idle CPU than of their own cost.
_MIN_REQUESTS: Final = 10
SLOTS: Final = 64
"""Slots of time that a stabilization window is remembered in."""
_USUAL_WINDOW_S: Final = 300.0
"""The stabilization window that the reserve's time constant belongs to: the default."""
# More replicas than any workload has.
_ALL: Final = np.int64(10**6)
# A product that is whole on paper must not be lifted to the next integer by rounding.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings(ReserveSettings):
    """Every rule of the guard as a number; those of the reserve are in its own module."""

    hpa_target: float = 0.92
    """CPU utilization at which the HPA rule would run the workload, as ratio of the limit. A
    removal never goes below the replicas that this rule wants, or wanted within the window. Higher
    than an HPA would be set, because the network above it sees queue and latency too."""
    stabilization_window_s: float = _USUAL_WINDOW_S
    """Time for which a wish of the HPA rule holds, seconds; 0 asks only for the newest. The window
    is over absolute wishes, so a policy of steps of two comes down in its own time once the window
    has passed, instead of by two in each window. That of the HPA: the reserve holds on longer, and
    to more, where that is worth it; docs/training.md has the sweep."""
    reserve_steps: int = 2
    """Most replicas that the guard adds in one decision to have the reserve. 0: the reserve only
    keeps replicas from being removed."""
    burst_ratio: float = 2.0
    """Demand over ready replicas from which on steps of two are too slow, and the guard itself
    adds what is missing. 0 turns the rule off."""
    burst_headroom: float = 1.25
    """Replicas asked for in a burst, as multiple of the demand, so that the backlog drains too."""
    calm_utilization: float = 0.8
    """CPU utilization below which CPU per request is learnt. Above it requests wait, and CPU over
    requests says more of the queue than of the request."""
    demand_weight: float = 0.1
    """Weight of the newest CPU per request in its running mean: about ten decisions of memory."""
    interval_s: float = 15.0
    """Seconds between two decisions: the time in which a backlog found now should be worked off."""

    def __post_init__(self) -> None:
        ReserveSettings.__post_init__(self)
        _require(self.stabilization_window_s >= 0, "stabilization_window_s", "at least 0")
        _require(0 < self.hpa_target <= 1, "hpa_target", "above 0 and at most 1")
        _require(self.reserve_steps >= 0, "reserve_steps", "at least 0")
        _require(self.burst_ratio == 0 or self.burst_ratio > 1, "burst_ratio", "0 or above 1")
        _require(self.burst_headroom >= 1, "burst_headroom", "at least 1")
        _require(0 < self.calm_utilization <= 1, "calm_utilization", "above 0 and at most 1")
        _require(0 < self.demand_weight <= 1, "demand_weight", "above 0 and at most 1")
        _require(self.interval_s > 0, "interval_s", "above 0")


class Rule(IntFlag):
    """Which rules changed a recommendation; a verdict holds any number of them."""

    NONE = 0
    BOUNDS = 1
    """The target left the bounds and was brought back."""
    HPA_OBJECTS = 2
    """A removal was held, or made smaller, because the HPA rule wants the replicas."""
    STABILIZATION = 4
    """A removal was held, or made smaller, because the HPA rule wanted the replicas of late."""
    BURST = 8
    """Replicas were added because demand is a multiple of what is ready."""
    RESERVE = 16
    """Replicas were added, or a removal was held or made smaller, because a load as rough as this
    one has been may want them next."""


class GuardMemory(NamedTuple):
    """What the guard remembers of each of B workloads; a restart begins anew."""

    wishes: NDArray[np.int64]
    """The highest wish of the HPA rule in each of the latest slots of time, a ring (B, SLOTS)."""
    wished_s: NDArray[np.float64]
    """When a slot was last written (B, SLOTS)."""
    slot: NDArray[np.int64]
    """The slot that is being written (B,)."""
    opened_s: NDArray[np.float64]
    """When it was opened (B,)."""
    cpu_s_per_request: NDArray[np.float64]
    """Running mean of CPU seconds a request, in pods (B,); NaN until a calm moment was seen."""
    level: NDArray[np.float64]
    """Running mean of the busy pods over about a minute (B,); NaN until CPU was seen."""
    mean_square: NDArray[np.float64]
    """Running mean square of their relative distance from it, roughness squared (B,)."""
    peak: NDArray[np.float64]
    """Highest demand of late, in busy pods, leaking towards the newest (B,); NaN until one is
    known."""
    mean: NDArray[np.float64]
    """Running mean of the demand, in busy pods (B,); NaN until one is known."""
    recent: NDArray[np.float64]
    """The latest demands, newest first (B, WIDTH); see `nimbusguard.policy.trend`."""
    product: NDArray[np.float64]
    """Running mean of the product of two changes of demand in a row (B,)."""
    square: NDArray[np.float64]
    """Running mean square of the earlier of the two (B,)."""

    @property
    def roughness(self) -> NDArray[np.float64]:
        """How rough each workload's load is (B,); see `nimbusguard.policy.roughness`."""
        root: NDArray[np.float64] = np.sqrt(self.mean_square)
        return root


class Verdict(NamedTuple):
    """What the guard decided."""

    target: NDArray[np.int64]
    """Replicas to ask for, (B,)."""
    rules: NDArray[np.int64]
    """The `Rule` flags that changed the recommendation, (B,)."""


class Bounds(NamedTuple):
    """Replica bounds of each workload, (B,) each; minimum is not above maximum."""

    minimum: NDArray[np.int64]
    maximum: NDArray[np.int64]


def start(count: int, now_s: float) -> GuardMemory:
    """Memory of `count` workloads of which nothing is known.

    What is unknown might have needed every replica there is, so nothing is removed before a whole
    window has been seen; and what is found then counts as the demand of late.
    """
    return GuardMemory(
        np.full((count, SLOTS), _ALL, dtype=np.int64),
        np.full((count, SLOTS), now_s, dtype=np.float64),
        np.zeros(count, dtype=np.int64),
        np.full(count, now_s, dtype=np.float64),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.full(count, UNKNOWN**2),
        np.full(count, np.nan),
        np.full(count, np.nan),
        *unknown(count),
    )


def restart(memory: GuardMemory, rows: NDArray[np.bool_], now_s: float) -> GuardMemory:
    """Memory in which the workloads of a mask (B,) begin anew."""
    fresh = start(len(rows), now_s)
    columns: list[Any] = [
        np.where(rows[:, None] if old.ndim > 1 else rows, new, old)
        for new, old in zip(fresh, memory, strict=True)
    ]
    return GuardMemory(*columns)


def take(memory: GuardMemory, rows: NDArray[np.int64]) -> GuardMemory:
    """The memory of some workloads (B,), in a new order; a row may be taken more than once."""
    columns: list[Any] = [column[rows] for column in memory]
    return GuardMemory(*columns)


def judge(
    settings: GuardSettings,
    memory: GuardMemory,
    action: NDArray[np.int64],
    raw: NDArray[np.float64],
    current: NDArray[np.int64],
    bounds: Bounds,
    *,
    now_s: float,
) -> tuple[GuardMemory, Verdict]:
    """Turn recommended actions into replica targets.

    Args:
        settings: The rules.
        memory: What `start` or the previous call returned.
        action: Recommended action index (B,).
        raw: Raw features (B, F); NaN means absent. Without CPU nothing is removed.
        current: Desired replicas now (B,).
        bounds: Replica bounds.
        now_s: Seconds on any clock that does not run backwards.

    Returns:
        The memory for the next call, and the verdict.
    """
    change = CHANGES[action]  # (B,)
    rules = np.zeros_like(current)
    wanted = _hpa_wish(settings, raw, current)  # (B,)
    memory = _remember(settings, memory, wanted, raw, current, now_s)

    wish = current + change
    target = np.maximum(wish, np.minimum(current, wanted))
    rules |= np.where(target != wish, int(Rule.HPA_OBJECTS), 0)

    wish = target
    target = np.maximum(wish, np.minimum(current, _highest_wish(settings, memory, now_s)))
    rules |= np.where(target != wish, int(Rule.STABILIZATION), 0)

    wish = target
    target = np.maximum(wish, _reserve(settings, memory, current))
    rules |= np.where(target != wish, int(Rule.RESERVE), 0)

    wish = target
    target = np.maximum(wish, _burst_wish(settings, memory, raw, current))
    rules |= np.where(target != wish, int(Rule.BURST), 0)

    # A workload found above its bounds is led back by the network's own steps: the operator who
    # lowered the bounds has already decided, and neither window nor HPA rule is asked.
    target = np.where(current > bounds.maximum, current + change, target)
    wish = target
    lowest, highest = np.minimum(bounds.minimum, current), np.maximum(bounds.maximum, current)
    target = np.clip(wish, lowest, highest)
    rules |= np.where(target != wish, int(Rule.BOUNDS), 0)
    return memory, Verdict(target, rules)


def names_of(rules: int) -> list[str]:
    """The names of the rules in one verdict, for logs and answers."""
    return [rule.name for rule in Rule if rule & rules and rule.name is not None]


def _remember(
    settings: GuardSettings,
    memory: GuardMemory,
    wanted: NDArray[np.int64],
    raw: NDArray[np.float64],
    current: NDArray[np.int64],
    now_s: float,
) -> GuardMemory:
    rate, cpu = raw[:, _RATE], raw[:, _CPU]
    measurable = rate * settings.interval_s >= _MIN_REQUESTS
    newest = cpu * raw[:, _PODS] / np.where(measurable, rate, 1.0)  # (B,)
    known = memory.cpu_s_per_request
    mixed = known + settings.demand_weight * (newest - known)
    learnt = np.where(np.isnan(known), newest, mixed)
    calm = measurable & (cpu > 0) & (cpu < settings.calm_utilization)
    # A ring of slots covers the window however often it is asked; a slot keeps its highest wish.
    lasts_s = settings.stabilization_window_s / (SLOTS - 1)
    opens = now_s - memory.opened_s >= lasts_s
    slot = np.where(opens, (memory.slot + 1) % SLOTS, memory.slot)
    row = np.arange(len(slot))
    wishes, wished_s = memory.wishes.copy(), memory.wished_s.copy()
    wishes[row, slot] = np.where(opens, wanted, np.maximum(wanted, wishes[row, slot]))
    wished_s[row, slot] = now_s
    opened_s = np.where(opens, now_s, memory.opened_s)
    known = np.where(calm, learnt, known)
    # Requests times their cost are a scrape newer than CPU, but the cost has to be known.
    busy = cpu * raw[:, _PODS]
    demand = np.where(np.isnan(known), busy, known * rate)
    watched = watch(Watched(memory.level, memory.mean_square), demand, settings.interval_s)
    trend = follow(Trend(memory.recent, memory.product, memory.square), demand, settings.interval_s)
    held = hold(
        settings,
        Held(memory.peak, memory.mean),
        demand,
        coming=demand + settings.trend_gain * rise(trend),
        found=carried_by(settings, current, np.sqrt(watched.mean_square)),
        interval_s=settings.interval_s,
        pace=_USUAL_WINDOW_S / window_s
        if (window_s := settings.stabilization_window_s)
        else np.inf,
    )
    return GuardMemory(wishes, wished_s, slot, opened_s, known, *watched, *held, *trend)


def _highest_wish(settings: GuardSettings, memory: GuardMemory, now_s: float) -> NDArray[np.int64]:
    recent = now_s - memory.wished_s <= settings.stabilization_window_s
    highest: NDArray[np.int64] = np.where(recent, memory.wishes, 0).max(axis=1)
    return highest


def _hpa_wish(
    settings: GuardSettings, raw: NDArray[np.float64], current: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pods that bring CPU to its target, without tolerance; the current ones if CPU is unknown."""
    busy = raw[:, _CPU] * raw[:, _PODS]
    unknown = ~np.isfinite(busy)
    wish = np.ceil(np.where(unknown, 0.0, busy) / settings.hpa_target - _ROUNDING)
    return np.where(unknown, current, wish.astype(np.int64))


def _reserve(
    settings: GuardSettings, memory: GuardMemory, current: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Replicas that the reserve asks for: all that it needs to add, a little more to remove."""
    need = needed(settings, Held(memory.peak, memory.mean), memory.roughness)  # (B,)
    least = np.ceil(need - _ROUNDING).astype(np.int64)
    # Of less than a pod not more than as much again: a nearly idle workload may have one.
    slack = np.minimum(settings.slack * memory.roughness, settings.most_slack)
    slack = slack * np.minimum(need, 1.0)
    kept = np.ceil(need + slack - _ROUNDING).astype(np.int64)
    added = np.minimum(least, current + settings.reserve_steps)
    return np.maximum(added, np.minimum(kept, current))


def _burst_wish(
    settings: GuardSettings,
    memory: GuardMemory,
    raw: NDArray[np.float64],
    current: NDArray[np.int64],
) -> NDArray[np.int64]:
    if settings.burst_ratio == 0:
        return np.zeros_like(current)
    backlog = np.nan_to_num(raw[:, _QUEUE], nan=0.0, posinf=0.0) / settings.interval_s
    demand = memory.cpu_s_per_request * (raw[:, _RATE] + backlog)  # (B,)
    burst = demand >= settings.burst_ratio * np.maximum(raw[:, _PODS], 1.0)
    pods = np.ceil(np.where(burst, demand, 0.0) * settings.burst_headroom)
    # The scale-up limit of the HPA: twice the replicas or four more, whichever is more.
    limit = np.maximum(2 * current, current + 4)
    wish: NDArray[np.int64] = np.where(burst, np.minimum(pods, limit), 0).astype(np.int64)
    return wish


def _require(holds: bool, name: str, rule: str) -> None:
    if not holds:
        message = f"guard setting {name}: expected {rule}"
        raise InvalidRequest(message)
