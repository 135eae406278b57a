"""The guard rails around a recommended action: what the operator does with it, and why.

A network may add replicas freely; it may remove them only when it kept asking for it, and when the
rule of the Kubernetes HPA does not object. The same code runs in the operator, with one row, and in
training, with thousands of rows, so that a policy is trained and judged inside the rails that it
will be run in. Pure: the memory between two decisions is a value that goes in and comes out, and
`now_s` is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX
from nimbusguard.policy.hpa import DEFAULT_TOLERANCE, desired_replicas_batch

_CPU = INDEX["cpu_utilization"]
_RATE = INDEX["request_rate"]
_PODS = INDEX["pod_count"]
_QUEUE = INDEX["queue_depth"]
# Fewer requests in an interval than this say more of chance and idle CPU than of their own cost.
_MIN_REQUESTS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """Every rule of the guard as a number."""

    stabilization_window_s: float = 60.0
    """Seconds for which every recommendation must have been a removal before one is carried out; 0
    turns the rule off. The exact window of the HPA (300 s over absolute wishes) lets a policy of
    steps of two come down by two replicas in five minutes; see docs/training.md for the sweep."""
    hpa_target: float = 0.85
    """CPU utilization at which the HPA rule would run the workload, as ratio of the limit. A
    removal never goes below the replicas that this rule wants. 0.85 only stops removals that would
    end close to saturation: what the network saves, it saves between here and a tuned HPA."""
    hpa_tolerance: float = DEFAULT_TOLERANCE
    """No wish of the HPA rule while utilization over target lies within 1 ± this ratio."""
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
        _require(self.stabilization_window_s >= 0, "stabilization_window_s", "at least 0")
        _require(0 < self.hpa_target <= 1, "hpa_target", "above 0 and at most 1")
        _require(0 <= self.hpa_tolerance < 1, "hpa_tolerance", "at least 0 and below 1")
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
    STABILIZATION = 2
    """A removal was held, or made smaller, because it was not asked for long enough."""
    HPA_OBJECTS = 4
    """A removal was held, or made smaller, because the HPA rule wants the replicas."""
    BURST = 8
    """Replicas were added because demand is a multiple of what is ready."""


class GuardMemory(NamedTuple):
    """What the guard remembers of each workload, (B,) each; a restart begins anew."""

    kept_one_s: NDArray[np.float64]
    """When a recommendation last was no removal at all."""
    kept_two_s: NDArray[np.float64]
    """When a recommendation last removed fewer than two replicas."""
    cpu_s_per_request: NDArray[np.float64]
    """Running mean of CPU seconds a request, in pods; NaN until a calm moment was seen."""


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

    The window counts from `now_s`, so that nothing is removed right after a restart.
    """
    now = np.full(count, now_s, dtype=np.float64)
    return GuardMemory(now, now.copy(), np.full(count, np.nan))


def restart(memory: GuardMemory, rows: NDArray[np.bool_], now_s: float) -> GuardMemory:
    """Memory in which the workloads of a mask (B,) begin anew."""
    return GuardMemory(
        np.where(rows, now_s, memory.kept_one_s),
        np.where(rows, now_s, memory.kept_two_s),
        np.where(rows, np.nan, memory.cpu_s_per_request),
    )


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
    memory = _remember(settings, memory, change, raw, now_s)

    wish = current + change
    target = np.maximum(wish, current - _removable(settings, memory, now_s))
    rules |= np.where(target != wish, int(Rule.STABILIZATION), 0)

    wish = target
    target = np.maximum(wish, np.minimum(current, _hpa_wish(settings, raw, current)))
    rules |= np.where(target != wish, int(Rule.HPA_OBJECTS), 0)

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
    change: NDArray[np.int64],
    raw: NDArray[np.float64],
    now_s: float,
) -> GuardMemory:
    rate, cpu = raw[:, _RATE], raw[:, _CPU]
    measurable = rate * settings.interval_s >= _MIN_REQUESTS
    newest = cpu * raw[:, _PODS] / np.where(measurable, rate, 1.0)  # (B,)
    known = memory.cpu_s_per_request
    mixed = known + settings.demand_weight * (newest - known)
    learnt = np.where(np.isnan(known), newest, mixed)
    calm = measurable & (cpu > 0) & (cpu < settings.calm_utilization)
    return GuardMemory(
        np.where(change >= 0, now_s, memory.kept_one_s),
        np.where(change >= -1, now_s, memory.kept_two_s),
        np.where(calm, learnt, known),
    )


def _removable(settings: GuardSettings, memory: GuardMemory, now_s: float) -> NDArray[np.int64]:
    window = settings.stabilization_window_s
    if window == 0:
        return np.full(memory.kept_one_s.shape, int(-CHANGES.min()), dtype=np.int64)
    one = now_s - memory.kept_one_s >= window
    two = now_s - memory.kept_two_s >= window
    count: NDArray[np.int64] = one.astype(np.int64) + two.astype(np.int64)
    return count


def _hpa_wish(
    settings: GuardSettings, raw: NDArray[np.float64], current: NDArray[np.int64]
) -> NDArray[np.int64]:
    ratio = raw[:, _CPU] / settings.hpa_target
    unknown = ~np.isfinite(ratio)
    wish = desired_replicas_batch(
        current, np.where(unknown, 1.0, np.maximum(ratio, 0.0)), tolerance=settings.hpa_tolerance
    )
    return np.where(unknown, current, wish)


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
