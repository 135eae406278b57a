"""May a version be published? A pure function of measured figures, with every figure in its answer.

The candidate is judged as it will be run: inside the guard. Its rival is the HPA at the one target
that is cheapest within the budget over these very windows, found after the fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.edges import Edges
from training.evaluate import Judgement, window_excess_ratio
from training.statistics import Interval, paired_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """The limits."""

    violation_budget_ratio: float = 0.005
    """Share of requests that may violate, in the mean over windows; the HPA's if that is more."""
    cost_ratio: float = 0.95
    """Pod-hours over the rival's must be at most this."""
    cost_ratio_high: float = 1.0
    """The upper end of its 95 % interval must be below this."""
    window_excess_ratio: float = 0.005
    """No window may violate by more than this above the rival there."""
    turns_ratio: float = 1.0
    """Direction changes over the rival's must be below this."""
    idle_additions_ratio: float = 0.0
    """Share of idle states (`training.edges`) that may be answered with more pods."""
    saturated_neglect_ratio: float = 0.0
    """Share of saturated states (`training.edges`) that may be answered without more."""
    spare_kept_ratio: float = 0.05
    """Share of nearly idle states (`training.edges`) whose spare pods may be kept: a pod too many
    costs little, and at the next decision the state is another."""
    seeds: int = 5
    """Training seeds that must have been judged; the limits hold for their mean as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that was asked for, and what was found."""

    name: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's answer."""

    conditions: tuple[Condition, ...]
    rival: str
    cost_ratio: Interval
    """Pod-hours of the candidate over the rival's, with its paired bootstrap interval."""
    seed_cost_ratios: tuple[float, ...]
    seed_violation_ratios: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether every condition holds."""
        return all(condition.passed for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        """What stands in a version's metadata under `evaluation.gate`."""
        return {
            "passed": self.passed,
            "rival": self.rival,
            "cost_ratio": self.cost_ratio.estimate,
            "cost_ratio_low": self.cost_ratio.low,
            "cost_ratio_high": self.cost_ratio.high,
            "seed_cost_ratios": list(self.seed_cost_ratios),
            "seed_violation_ratios": list(self.seed_violation_ratios),
            "conditions": [asdict(condition) for condition in self.conditions],
        }


def decide(
    settings: GateSettings,
    candidate: Judgement,
    rival: Judgement,
    *,
    seeds: Sequence[Judgement],
    parity: bool,
    edges: Edges,
    rng: np.random.Generator,
) -> Verdict:
    """Judge a candidate.

    Args:
        settings: The limits.
        candidate: The network that would be published, inside the guard.
        rival: The best single-target HPA over the same windows and seeds.
        seeds: The networks of all training seeds, judged alike, the candidate's among them.
        parity: Whether TorchScript, ONNX and eager network choose the same actions.
        edges: What the candidate does without a guard in idle and in saturated states.
        rng: Source of the bootstrap's resamples.
    """
    ratio = paired_ratio(candidate.pod_hours, rival.pod_hours, rng)
    budget = max(settings.violation_budget_ratio, rival.mean_violation_ratio)
    excess = window_excess_ratio(candidate, rival, settings.violation_budget_ratio)
    costs = [each.total_pod_hours / rival.total_pod_hours for each in seeds]
    violations = [each.mean_violation_ratio for each in seeds]
    conditions = (
        _at_most("mean violation ratio", candidate.mean_violation_ratio, budget),
        _at_most("pod-hours over the rival's", ratio.estimate, settings.cost_ratio),
        _below("upper end of its 95 % interval", ratio.high, settings.cost_ratio_high),
        _at_most("worst window over the rival's", excess, settings.window_excess_ratio),
        _below(
            "direction changes an hour",
            candidate.turns_per_hour,
            settings.turns_ratio * rival.turns_per_hour,
        ),
        _at_least("training seeds judged", len(seeds), settings.seeds),
        _at_most("mean violation ratio over seeds", float(np.mean(violations)), budget),
        _at_most(
            "pod-hours over the rival's, over seeds", float(np.mean(costs)), settings.cost_ratio
        ),
        _at_least("export parity", float(parity), 1.0),
        _at_most(
            "additions to an idle workload",
            edges.idle_additions_ratio,
            settings.idle_additions_ratio,
        ),
        _at_most(
            "saturated workloads left alone",
            edges.saturated_neglect_ratio,
            settings.saturated_neglect_ratio,
        ),
        _at_most(
            "spare pods of nearly idle workloads kept",
            edges.spare_kept_ratio,
            settings.spare_kept_ratio,
        ),
    )
    return Verdict(
        conditions=conditions,
        rival=rival.policy,
        cost_ratio=ratio,
        seed_cost_ratios=tuple(costs),
        seed_violation_ratios=tuple(violations),
    )


def _at_most(name: str, value: float, limit: float) -> Condition:
    return Condition(name=name, value=value, limit=limit, passed=bool(value <= limit))


def _below(name: str, value: float, limit: float) -> Condition:
    return Condition(name=name, value=value, limit=limit, passed=bool(value < limit))


def _at_least(name: str, value: float, limit: float) -> Condition:
    return Condition(name=name, value=value, limit=limit, passed=bool(value >= limit))
