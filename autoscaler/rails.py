"""The operator's rules around the guard: what it knows beyond one row of metrics.

`nimbusguard.policy.guard` bounds what a policy may ask for and is the same in training. Here stand
the rules that only a running system needs: a state unlike those trained on, metrics that may not be
believed, a workload that somebody paused or scaled to zero. Each has a reason and a name that is
recorded.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from autoscaler.evidence import Flaw, Raw
from autoscaler.policy_spec import ScalingPolicy
from nimbusguard.client.decision import Decision
from nimbusguard.client.hpa_rule import hpa_action
from nimbusguard.client.observation import Observation
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX, MAXIMUM, MINIMUM, NAMES

_SPAN: Final = MAXIMUM - MINIMUM
_CPU: Final = INDEX["cpu_utilization"]
_PODS: Final = INDEX["pod_count"]
# A product that is whole on paper must not be lifted to the next integer by rounding.
_ROUNDING: Final = 1e-9


class Rail(StrEnum):
    """A rule that changed a recommendation."""

    OUT_OF_DISTRIBUTION = "OUT_OF_DISTRIBUTION"
    """The network was asked about a state unlike those it learnt from; the HPA rule answered."""
    INDIFFERENT = "INDIFFERENT"
    """The network gave every action the same value; the HPA rule answered."""
    UNLEARNT = "UNLEARNT"
    """The guard has not learnt yet what a request costs and so sees no burst; the replicas that
    the HPA would ask for were asked for."""
    BAD_DATA = "BAD_DATA"
    """The metrics may not be believed; replicas were not removed, or not changed at all."""
    BOUNDS = "BOUNDS"
    """The workload was outside its bounds and was brought back to them."""
    SCALED_TO_ZERO = "SCALED_TO_ZERO"
    """Somebody scaled the workload to zero, as one does to switch it off."""
    PAUSED = "PAUSED"
    """The pause annotation is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RailSettings:
    """When a network is not believed."""

    range_margin: float = 0.25
    """How far a feature may lie beyond its range, as share of the range, before the network is not
    asked. States are clipped to the range, so beyond it the network cannot tell more from less."""
    spread_minimum: float = 1e-6
    """Highest minus lowest Q-value at which a network still prefers anything. A trained one differs
    by far more; one with dead units does not differ at all."""
    hpa_target: float = 0.7
    """CPU utilization that the HPA rule keeps when it answers instead."""
    hpa_tolerance: float = 0.1
    """No step of the HPA rule while utilization over target lies within 1 ± this ratio."""
    saturated_ratio: float = 0.95
    """CPU utilization from which it is used up and no longer tells how much more is wanted. A pod
    that is throttled all the time shows a little less than 1."""

    def __post_init__(self) -> None:
        for name in ("range_margin", "spread_minimum", "saturated_ratio"):
            if not getattr(self, name) >= 0.0:
                message = f"{name}: expected at least 0, got {getattr(self, name)}"
                raise InvalidRequest(message)


def strange_features(raw: Raw, margin: float) -> list[str]:
    """Names of the features (F,) that lie further beyond their range than `margin` of it."""
    beyond = np.array(raw) > MAXIMUM + margin * _SPAN
    return [name for name, strange in zip(NAMES, beyond, strict=True) if strange]


def trusted_action(
    settings: RailSettings, seen: Observation, action: ScaleAction, decision: Decision | None
) -> tuple[ScaleAction, list[Rail]]:
    """The action of a network, or that of the HPA rule where the network cannot know.

    Args:
        settings: When it cannot.
        seen: What the network was asked about.
        action: What was recommended.
        decision: The network's answer; None if a rule recommended, which is then kept.
    """
    if decision is None:
        return action, []
    rails = []
    if strange_features(seen.values, settings.range_margin):
        rails.append(Rail.OUT_OF_DISTRIBUTION)
    if max(decision.q_values) - min(decision.q_values) < settings.spread_minimum:
        rails.append(Rail.INDIFFERENT)
    if not rails:
        return action, []
    rule = hpa_action(seen, target=settings.hpa_target, tolerance=settings.hpa_tolerance)
    return (ScaleAction.NO_ACTION if rule is None else rule), rails


def unlearnt_target(
    settings: RailSettings, seen: Observation, target: int, *, cost_known: bool
) -> tuple[int, list[Rail]]:
    """The replicas to ask for while the guard cannot see a burst: not fewer than the HPA would add.

    An operator that starts, or takes over, in the middle of a surge would else be left with steps
    of two, where the HPA doubles.

    Args:
        settings: The HPA rule's target, and when CPU is used up.
        seen: What was seen.
        target: What the guard allows.
        cost_known: Whether the guard has learnt what a request costs.
    """
    busy, pods = seen.values[_CPU] * seen.values[_PODS], seen.values[_PODS]
    if cost_known or not busy >= settings.saturated_ratio * pods:  # NaN compares false
        return target, []
    current = seen.current_replicas
    # The scale-up limit of the HPA: twice the replicas or four more, whichever is more.
    most = max(2 * current, current + 4)
    wish = math.ceil(min(busy / settings.hpa_target - _ROUNDING, most))
    return (wish, [Rail.UNLEARNT]) if wish > max(target, current) else (target, [])


def railed_target(
    policy: ScalingPolicy, target: int, *, current: int, flaws: Set[Flaw]
) -> tuple[int, list[Rail]]:
    """The replicas to ask for, after the rules that no metric can overrule.

    Args:
        policy: Bounds and pause.
        target: What the guard allows.
        current: Desired replicas now.
        flaws: What is wrong with the metrics.
    """
    if policy.paused:
        return current, [Rail.PAUSED]
    if current == 0:
        return 0, [Rail.SCALED_TO_ZERO]
    rails = []
    believed = target
    if flaws & {Flaw.IMPLAUSIBLE, Flaw.FROZEN}:
        believed = current
    elif flaws:
        believed = max(target, current)
    if believed != target:
        rails.append(Rail.BAD_DATA)
    bounded = min(max(believed, policy.spec.min_replicas), policy.spec.max_replicas)
    if bounded != believed:
        rails.append(Rail.BOUNDS)
    return bounded, rails
