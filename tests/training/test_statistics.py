"""Intervals and frontiers, against cases with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from nimbusguard.contract.errors import InvalidRequest
from training.statistics import (
    FrontierPoint,
    cost_at_violation,
    frontier,
    paired_difference,
    paired_ratio,
)


def test_a_constant_ratio_has_an_interval_of_no_width() -> None:
    """Where every window costs nine tenths, chance among windows cannot show."""
    theirs = np.array([1.0, 5.0, 20.0])

    interval = paired_ratio(0.9 * theirs, theirs, np.random.default_rng(0), resamples=500)

    assert interval == pytest.approx((0.9, 0.9, 0.9))


def test_the_interval_covers_the_true_ratio_nineteen_times_in_twenty() -> None:
    """Of 400 experiments with 30 windows each, 95 % ± 4 % cover the ratio of the means."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        theirs = rng.gamma(20.0, 1.0, size=30)
        ours = 0.9 * theirs * rng.gamma(100.0, 0.01, size=30)
        interval = paired_ratio(ours, theirs, rng, resamples=400)
        covered += interval.low <= 0.9 <= interval.high

    assert covered / 400 == pytest.approx(0.95, abs=0.04)


def test_seeds_of_one_window_are_not_counted_as_windows() -> None:
    """Copying each window ten times as seeds leaves the interval as it was."""
    ours, theirs = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 5.0])

    single = paired_ratio(ours, theirs, np.random.default_rng(3))
    copied = paired_ratio(
        np.repeat(ours[:, None], 10, axis=1),
        np.repeat(theirs[:, None], 10, axis=1),
        np.random.default_rng(3),
    )

    assert single == pytest.approx(copied)


def test_a_difference_is_paired() -> None:
    """A constant advantage under large common variation has an interval of no width."""
    common = np.random.default_rng(0).normal(size=20) * 100

    interval = paired_difference(common - 1.0, common, np.random.default_rng(1), resamples=200)

    assert interval == pytest.approx((-1.0, -1.0, -1.0))


def test_unequal_windows_are_refused() -> None:
    """Policies judged on other windows cannot be compared."""
    with pytest.raises(InvalidRequest, match="3 and 2"):
        paired_ratio(np.ones(3), np.ones(2), np.random.default_rng(0))


POINTS = [
    FrontierPoint(0.001, 10.0, "careful"),
    FrontierPoint(0.002, 12.0, "beaten"),
    FrontierPoint(0.005, 8.0, "bold"),
]


def test_a_beaten_point_is_not_on_the_frontier() -> None:
    """More violations at more cost are nobody's choice."""
    assert [point.label for point in frontier(POINTS)] == ["careful", "bold"]


@pytest.mark.parametrize(
    ("violation", "cost"), [(0.001, 10.0), (0.003, 9.0), (0.005, 8.0), (0.02, 8.0)]
)
def test_cost_at_a_violation_is_read_off_the_frontier(violation: float, cost: float) -> None:
    """Half way between 0.1 % and 0.5 % the cost is half way between 10 and 8."""
    assert cost_at_violation(POINTS, violation) == pytest.approx(cost)


def test_a_family_that_cannot_keep_the_budget_has_no_cost_there() -> None:
    """Nothing is extrapolated below the least violating point."""
    assert np.isnan(cost_at_violation(POINTS, 0.0005))
