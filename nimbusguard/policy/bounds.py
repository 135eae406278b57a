"""Bounds on shares and quantiles from counts, so that a judgement knows how sure it may be. Pure.

All are exact: they follow from the binomial distribution and hold at five requests as at five
million. The approximations that are common for shares (Wald, Wilson) are far off at one failure in
five requests, which is just what a young canary shows.

Sources: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in
the case of the binomial", 1934; for quantiles, H. A. David and H. N. Nagaraja, "Order Statistics",
section 7.1; for the incomplete beta function, its continued fraction (NIST DLMF 8.17.22).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from nimbusguard.contract.errors import InvalidRequest

_STEPS: Final = 36
"""Halvings of [0, 1]: shares to within 1e-11."""


class Interval(NamedTuple):
    """A lower and an upper bound."""

    low: float
    high: float


class Histogram(NamedTuple):
    """Counts by bucket.

    Attributes:
        bounds: Upper bounds in seconds, rising; one more bucket reaches from the last to infinity.
        counts: Observations in each bucket, not cumulative; one more than there are bounds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """All observations."""
        return sum(self.counts)


def checked(histogram: Histogram) -> Histogram:
    """The histogram, if it is one.

    Raises:
        InvalidRequest: Bounds do not rise, or the counts do not match them.
    """
    rising = all(low < high for low, high in pairwise(histogram.bounds))
    if not rising or not histogram.bounds:
        message = f"histogram: expected rising bounds, got {histogram.bounds}"
        raise InvalidRequest(message)
    if len(histogram.counts) != len(histogram.bounds) + 1 or min(histogram.counts) < 0:
        message = (
            f"histogram: expected {len(histogram.bounds) + 1} counts from 0 on, "
            f"got {histogram.counts}"
        )
        raise InvalidRequest(message)
    return histogram


def lower_bound(hits: int, total: int, odds: float) -> float:
    """The smallest share that `hits` of `total` may be drawn from (Clopper and Pearson).

    Args:
        hits: Occurrences, at most `total`.
        total: Trials; with none the share may be anything.
        odds: How often the bound may be wrong: 0.05 is 1 in 20.
    """
    if not hits:
        return 0.0
    return _crossing(lambda share: 1 - _at_most(hits - 1, total, share) > odds)


def upper_bound(hits: int, total: int, odds: float) -> float:
    """The largest such share; arguments as for `lower_bound`."""
    if hits == total:
        return 1.0
    return _crossing(lambda share: _at_most(hits, total, share) < odds)


def quantile(histogram: Histogram, share: float) -> float:
    """The value that a share of all observations does not exceed, as Prometheus reads it.

    Linear inside a bucket; beyond the last bound it is that bound, since nothing more is known.

    Args:
        histogram: With at least one observation.
        share: Between 0 and 1.
    """
    wanted = share * histogram.total
    below = 0
    lower = 0.0
    for upper, count in zip(histogram.bounds, histogram.counts, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * max(0.0, wanted - below) / count
        below += count
        lower = upper
    return histogram.bounds[-1]


def quantile_bounds(histogram: Histogram, share: float, odds: float) -> Interval:
    """Bounds on the true quantile: observations whose rank it passes with these odds only.

    Too few observations leave a side open: 0 below, infinity above.
    """
    total = histogram.total
    low = _first(lambda rank: _at_most(rank, total, share) > odds, total) if total else 0
    high = _first(lambda rank: 1 - _at_most(rank, total, share) <= odds, total) + 1
    return Interval(
        quantile(histogram, low / total) if low else 0.0,
        quantile(histogram, high / total) if high <= total else math.inf,
    )


def _at_most(hits: int, total: int, share: float) -> float:
    """The chance of at most so many hits in so many trials."""
    if hits >= total:
        return 1.0
    return _incomplete_beta(total - hits, hits + 1, 1 - share)


def _crossing(is_above: Callable[[float], bool]) -> float:
    """Where a condition that is false at 0 and true at 1 turns."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return (low + high) / 2


def _first(holds: Callable[[int], bool], total: int) -> int:
    """The first number from 0 to `total` at which a condition that stays true is true."""
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(a, b, x) / a
    return 1 - front * _continued_fraction(b, a, 1 - x) / b


def _continued_fraction(a: float, b: float, x: float) -> float:
    """DLMF 8.17.22 by Lentz's method."""
    tiny = 1e-300
    numerator, denominator = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1), tiny)
    value = denominator
    # The fraction settles after about the square root of the larger parameter.
    for step in range(1, 200 + int(5 * math.sqrt(max(a, b)))):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        change = 1.0
        for term in (even, odd):
            denominator = 1 / _not_zero(1 + term * denominator, tiny)
            numerator = _not_zero(1 + term / numerator, tiny)
            change = denominator * numerator
            value *= change
        if abs(change - 1) < 1e-14:
            break
    return value


def _not_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def surely_more(one: tuple[int, int], other: tuple[int, int], odds: float) -> float:
    """How much larger the first share is at least; negative if it may be smaller.

    Args:
        one: Hits and total.
        other: Hits and total of the share to compare with.
        odds: How often each of the two bounds may be wrong.
    """
    return lower_bound(*one, odds) - upper_bound(*other, odds)
