"""The judge: common random numbers, sums, the best of a family."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from training.baselines.staffing import StaticReplicas
from training.evaluate import (
    Court,
    Judgement,
    best_within,
    hindsight_pod_hours,
    judge,
    judge_family,
)
from training.lineup import judge_oracle
from training.objective import DEFAULT_OBJECTIVE
from training.simulator.workload import Workload

WINDOWS = [
    Workload(name=f"{group}-{index}", group=group, step_s=60.0, load=np.full(10, level))
    for index, (group, level) in enumerate([("calm", 0.3), ("calm", 0.4), ("busy", 0.9)])
]
COURT = Court(windows=WINDOWS, seeds=(1, 2), objective=DEFAULT_OBJECTIVE)


def judgement(
    pod_hours: list[float], violations: list[float], name: str = "made", turns: float = 1.0
) -> Judgement:
    one = np.ones((len(pod_hours), 1))
    return Judgement(
        policy=name,
        windows=tuple(f"w{index}" for index in range(len(pod_hours))),
        groups=("made",) * len(pod_hours),
        hours=one,
        pod_hours=np.array(pod_hours)[:, None],
        requests=one * 1000.0,
        violations=np.array(violations)[:, None] * 1000.0,
        changes=one * turns,
        turns=one * turns,
        p95_s=one * 0.1,
        p99_s=one * 0.2,
    )


def test_every_policy_meets_the_same_requests() -> None:
    """However many pods there are, the same requests come in the same windows and seeds."""
    few, many = judge(StaticReplicas(12), COURT), judge(StaticReplicas(30), COURT)

    assert np.array_equal(few.requests, many.requests)
    assert few.requests.shape == (3, 2)
    assert len(set(few.requests.ravel().tolist())) == 6


def test_static_pods_cost_what_they_are() -> None:
    """Twenty pods for ten minutes in three windows are ten pod-hours."""
    judged = judge(StaticReplicas(20), COURT)

    assert judged.total_pod_hours == pytest.approx(10.0, rel=0.02)
    assert judged.turns_per_hour == 0.0


def test_a_family_played_side_by_side_is_its_members_played_alone() -> None:
    """Lanes do not disturb each other."""
    family = judge_family(
        lambda values: StaticReplicas(values.astype(np.int64)),
        [14.0, 20.0],
        COURT,
        label="static:{:.0f}",
    )

    alone = judge(StaticReplicas(14), COURT)

    assert [each.policy for each in family] == ["static:14", "static:20"]
    assert np.array_equal(family[0].violations, alone.violations)
    assert np.array_equal(family[0].pod_hours, alone.pod_hours)


def test_a_group_is_its_windows_alone() -> None:
    """Two of three windows are calm."""
    judged = judge(StaticReplicas(20), COURT)

    calm = judged.of_group("calm")

    assert calm.windows == ("calm-0", "calm-1")
    assert calm.total_pod_hours == pytest.approx(judged.total_pod_hours * 2 / 3, rel=0.02)


def test_the_best_of_a_family_is_the_cheapest_that_keeps_the_budget() -> None:
    """The cheapest of all violates too much; where none keeps it, the least violating one."""
    family = [
        judgement([5.0, 5.0], [0.02, 0.0], "bold"),
        judgement([6.0, 6.0], [0.006, 0.002], "right"),
        judgement([8.0, 8.0], [0.0, 0.0], "careful"),
    ]

    assert best_within(family, 0.005).policy == "right"
    assert best_within(family[:1], 0.005).policy == "bold"


def test_hindsight_chooses_for_each_window() -> None:
    """The bold setting in the window where it keeps the budget, another one elsewhere."""
    family = [
        judgement([5.0, 5.0], [0.02, 0.0]),
        judgement([6.0, 6.0], [0.006, 0.002]),
        judgement([8.0, 8.0], [0.0, 0.0]),
    ]

    assert hindsight_pod_hours(family, 0.005) == pytest.approx(8.0 + 5.0)


def test_the_oracle_costs_no_more_than_static_pods_at_no_more_violations() -> None:
    """Who knows all arrivals beforehand is the floor."""
    court = dataclasses.replace(COURT, seeds=(1,))
    static = judge(StaticReplicas(22), court)

    oracle = judge_oracle(court, [1.0])[0]

    assert oracle.total_pod_hours < static.total_pod_hours
    assert oracle.mean_violation_ratio < 0.01
