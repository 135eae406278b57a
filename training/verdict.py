"""From a finished run to a document: every policy judged, compared, gated and ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from training.evaluate import Court, Judgement, best_within, hindsight_pod_hours
from training.statistics import FrontierPoint, cost_at_violation, paired_ratio

RIVAL_FAMILY: Final = "hpa"
_BOOTSTRAP_SEED: Final = 20260101


def document_of(
    title: str,
    court: Court,
    engine: str,
    policies: Sequence[Judgement],
    families: Mapping[str, Sequence[Judgement]],
    oracle: Sequence[Judgement],
) -> dict[str, Any]:
    """All figures of an evaluation, JSON-ready.

    Args:
        title: What the report is called.
        court: Windows, seeds and objective.
        engine: Name of the simulator's engine.
        policies: What is judged.
        families: What it is compared with, each at all its settings; the HPA's must be among them.
        oracle: The oracle at several prices; may be empty.
    """
    budget = court.objective.violation_budget_ratio
    rival = best_within(families[RIVAL_FAMILY], budget)
    best = {name: best_within(members, budget) for name, members in families.items()}
    floor = cost_at_violation(points_of(oracle), budget) if oracle else float("nan")
    shown = [*policies, *best.values()]
    rows = [
        _row(each, rival, floor, court, ours=index < len(policies))
        for index, each in enumerate(shown)
    ]
    return {
        "title": title,
        "engine": engine,
        "objective": court.objective.to_dict(),
        "windows": [window.name for window in court.windows],
        "groups": court.groups(),
        "seeds": list(court.seeds),
        "rival": rival.policy,
        "hindsight_hpa_pod_hours": hindsight_pod_hours(families[RIVAL_FAMILY], budget),
        "oracle_pod_hours": None if np.isnan(floor) else floor,
        "policies": rows,
        "families": {
            name: [_point(each) for each in members] for name, members in families.items()
        },
        "oracle": [_point(each) for each in oracle],
        "comparisons": [
            _comparison(ours, name, best[name], families[name])
            for ours in policies
            for name in families
        ],
    }


def points_of(members: Sequence[Judgement]) -> list[FrontierPoint]:
    """A family's members as points of its frontier."""
    return [each.point(each.policy) for each in members]


def _row(
    each: Judgement, rival: Judgement, floor: float, court: Court, *, ours: bool
) -> dict[str, Any]:
    gap = (each.total_pod_hours - floor) / (rival.total_pod_hours - floor)
    return {
        **each.to_json(),
        "ours": ours,
        "cost_ratio": each.total_pod_hours / rival.total_pod_hours,
        "oracle_gap": None if np.isnan(gap) else gap,
        "groups": {group: each.of_group(group).to_json() for group in court.groups()},
    }


def _point(each: Judgement) -> dict[str, Any]:
    return {
        "policy": each.policy,
        "mean_violation_ratio": each.mean_violation_ratio,
        "pooled_violation_ratio": each.pooled_violation_ratio,
        "worst_window_violation_ratio": float(each.window_violation_ratio.max()),
        "pod_hours": each.total_pod_hours,
        "turns_per_hour": each.turns_per_hour,
    }


def _comparison(
    ours: Judgement, family: str, theirs: Judgement, members: Sequence[Judgement]
) -> dict[str, Any]:
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    ratio = paired_ratio(ours.pod_hours, theirs.pod_hours, rng)
    matched = cost_at_violation(points_of(members), ours.mean_violation_ratio)
    return {
        "policy": ours.policy,
        "against": f"{family} at its best ({theirs.policy})",
        "cost_ratio": ratio.estimate,
        "low": ratio.low,
        "high": ratio.high,
        "matched": None if np.isnan(matched) else ours.total_pod_hours / matched,
    }
