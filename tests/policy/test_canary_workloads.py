"""The judge over workloads: what a version did to what it scaled, beside what stable did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.canary import (
    Comparison,
    Finding,
    Judgement,
    Limits,
    Verdict,
    WorkloadFigures,
    judge,
)
from tests.policy.test_canary import arm

DAY = 5_760
"""Intervals of 15 s in a day."""


def figures(**change: int) -> WorkloadFigures:
    counts = {"workloads": 20, "intervals": 20 * DAY, "violating": 600, "taken_back": 900}
    return WorkloadFigures(**(counts | change))


def judged(
    stable: WorkloadFigures | None,
    canary: WorkloadFigures | None,
    comparison: Comparison | None = None,
) -> Judgement:
    """Two versions that differ in nothing but what became of their workloads."""
    rng = np.random.default_rng(3)
    one = replace(arm("2", 3_000, rng), workloads=stable)
    return judge(one, replace(one, version="3", workloads=canary), None, comparison)


def finding(judgement: Judgement, check: str) -> Finding:
    return next(found for found in judgement.findings if found.check == check)


def test_a_version_that_treats_its_workloads_alike_is_promoted() -> None:
    """With enough of them, for long enough."""
    judgement = judged(figures(), figures())

    assert judgement.verdict is Verdict.PROMOTE
    assert finding(judgement, "violations").stable == "0.52%"


def test_violations_of_the_objective_roll_back() -> None:
    """Three times stable's share, beyond doubt."""
    judgement = judged(figures(), figures(violating=12_000))

    assert judgement.verdict is Verdict.ROLL_BACK
    assert judgement.reasons[0].startswith("violations: at least ")


def test_replicas_that_go_up_and_down_roll_back() -> None:
    """Oscillation, though nobody noticed it yet."""
    judgement = judged(figures(), figures(taken_back=30_000))

    assert judgement.verdict is Verdict.ROLL_BACK
    assert judgement.reasons[0].startswith("churn: at least ")


def test_an_hour_of_one_workload_is_not_enough() -> None:
    """240 intervals that resemble one another count as twelve."""
    judgement = judged(figures(), figures(workloads=1, intervals=240, violating=2, taken_back=3))

    assert judgement.verdict is Verdict.HOLD
    assert finding(judgement, "workloads").reason == "1 workloads of the 3 that each version needs"
    assert finding(judgement, "violations").verdict is Verdict.HOLD


def test_a_canary_that_was_only_asked_is_held() -> None:
    """Shadow says what it would decide, and not what would have come of it."""
    nothing = WorkloadFigures(workloads=0, intervals=0, violating=0, taken_back=0)
    agreed = Comparison(compared=5_000, differing=100)

    judgement = judged(figures(), nothing, agreed)

    assert judgement.verdict is Verdict.HOLD
    assert finding(judgement, "workloads").canary == "0"
    assert finding(judgement, "disagreement").verdict is Verdict.PROMOTE


def test_one_bad_quarter_of_an_hour_is_no_evidence() -> None:
    """Sixty violating intervals of one workload in a row are three."""
    judgement = judged(figures(), figures(intervals=DAY, violating=30 + 60))

    assert finding(judgement, "violations").verdict is not Verdict.ROLL_BACK


def test_arms_without_workloads_are_judged_as_before() -> None:
    """A traffic canary scales nothing itself."""
    assert {found.check for found in judged(None, None).findings}.isdisjoint(
        {"workloads", "violations", "churn"}
    )


def test_one_arm_without_workloads_holds() -> None:
    """There is nothing to compare with."""
    judgement = judged(figures(), None)

    assert judgement.verdict is Verdict.HOLD
    assert finding(judgement, "workloads").canary == "0"


@pytest.mark.parametrize(
    "change", [{"violating": -1}, {"taken_back": 3}, {"workloads": 3}, {"violating": 3}]
)
def test_counts_that_cannot_be_are_refused(change: dict[str, int]) -> None:
    """Negative, or more than there were intervals."""
    counts = {"workloads": 1, "intervals": 2, "violating": 0, "taken_back": 0}

    with pytest.raises(InvalidRequest, match="expected counts from 0 to 2"):
        WorkloadFigures(**(counts | change))


@given(st.integers(0, 2 * DAY), st.integers(0, DAY), st.integers(0, DAY))
def test_more_violations_never_make_a_better_verdict(few: int, more: int, base: int) -> None:
    """The judge is monotone in what hurts."""
    order = list(Verdict)
    stable = figures(intervals=3 * DAY, violating=base)
    good, bad = (
        finding(judged(stable, figures(intervals=3 * DAY, violating=count)), "violations").verdict
        for count in (few, few + more)
    )

    assert order.index(good) <= order.index(bad)


def test_the_limits_can_be_set() -> None:
    """An operator with one workload may ask for no more than that."""
    lone = figures(workloads=1)
    rng = np.random.default_rng(3)
    one = replace(arm("2", 3_000, rng), workloads=lone)

    judgement = judge(one, replace(one, version="3"), Limits(min_workloads=1))

    assert judgement.verdict is Verdict.PROMOTE
