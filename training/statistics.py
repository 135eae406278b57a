"""Comparing two policies honestly: paired bootstrap intervals, and cost at equal violation.

Two policies are compared on the same windows with the same random numbers, so the unit that is
resampled is the window; all its seeds go along with it. Pure, numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest

DEFAULT_RESAMPLES: Final = 10_000
"""Resamples of a bootstrap: the Monte Carlo error of a 95 % bound is then about 0.2 points of
coverage (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 19)."""


class Interval(NamedTuple):
    """An estimate and its bootstrap percentile interval."""

    estimate: float
    low: float
    high: float


class FrontierPoint(NamedTuple):
    """What one setting of a policy family costs, and how often it violates."""

    violation_ratio: float
    cost: float
    label: str


def paired_ratio(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = DEFAULT_RESAMPLES,
) -> Interval:
    """Ratio of two totals over the same windows, with its paired bootstrap interval.

    Args:
        ours: A non-negative total of each window, (W,) or (W, S) over seeds.
        theirs: The same of the policy compared with, same shape; its total is above 0.
        rng: Source of the resamples.
        confidence: Share of resamples inside the interval.
        resamples: Number of resamples.

    Returns:
        The ratio of sums and its percentile interval.

    Raises:
        InvalidRequest: The shapes differ, or there is no window.

    Source: Efron and Tibshirani 1993, ch. 13 (percentile interval); windows are resampled whole
    because seeds of one window share their traffic.
    """
    sums_ours, sums_theirs = _window_sums(ours), _window_sums(theirs)
    if sums_ours.shape != sums_theirs.shape or sums_ours.size == 0:
        message = (
            f"paired ratio: expected equal numbers of windows, at least one, got "
            f"{sums_ours.size} and {sums_theirs.size}"
        )
        raise InvalidRequest(message)
    drawn = rng.integers(sums_ours.size, size=(resamples, sums_ours.size))  # (R, W)
    ratios = sums_ours[drawn].sum(axis=1) / sums_theirs[drawn].sum(axis=1)  # (R,)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return Interval(float(sums_ours.sum() / sums_theirs.sum()), float(low), float(high))


def paired_difference(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = DEFAULT_RESAMPLES,
) -> Interval:
    """Mean difference over the same windows, with its paired bootstrap interval.

    Args and errors are those of `paired_ratio`.
    """
    differences = _window_sums(ours) - _window_sums(theirs)
    if differences.size == 0:
        message = "paired difference: expected at least one window, got none"
        raise InvalidRequest(message)
    drawn = rng.integers(differences.size, size=(resamples, differences.size))  # (R, W)
    means = differences[drawn].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(differences.mean()), float(low), float(high))


def frontier(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    """The points that no other point beats in both violation and cost, by rising violation."""
    best: list[FrontierPoint] = []
    for point in sorted(points, key=lambda item: (item.violation_ratio, item.cost)):
        if not best or point.cost < best[-1].cost:
            best.append(point)
    return best


def cost_at_violation(points: Sequence[FrontierPoint], violation_ratio: float) -> float:
    """What a family costs at a stated violation ratio, read off its frontier.

    Linear between the two frontier points around it. Beyond the most violating point the family
    need not get dearer, so that point's cost holds; below the least violating point the family
    cannot go, and the answer is NaN rather than a guess.
    """
    best = frontier(points)
    if not best or violation_ratio < best[0].violation_ratio:
        return float("nan")
    violations = [point.violation_ratio for point in best]
    costs = [point.cost for point in best]
    return float(np.interp(violation_ratio, violations, costs))


def _window_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    sums: NDArray[np.float64] = array.reshape(array.shape[0], -1).mean(axis=1)
    return sums
