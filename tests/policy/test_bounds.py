"""The statistics under the judge, against worked examples and by their own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nimbusguard.policy.bounds import (
    Histogram,
    lower_bound,
    quantile,
    quantile_bounds,
    upper_bound,
)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_the_bounds_on_a_share_are_the_published_ones(
    hits: int, total: int, low: float, high: float
) -> None:
    """R. G. Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I."""
    assert lower_bound(hits, total, 0.025) == pytest.approx(low, abs=1e-4)
    assert upper_bound(hits, total, 0.025) == pytest.approx(high, abs=1e-4)


def test_no_hit_in_n_trials_has_the_closed_form() -> None:
    """The upper bound is then 1 - odds ** (1/n), from one trial to a million."""
    for total in (1, 7, 300, 10_000, 1_000_000):
        expected = -math.expm1(math.log(0.05) / total)

        assert upper_bound(0, total, 0.05) == pytest.approx(expected, rel=1e-5)


def test_without_trials_everything_is_possible() -> None:
    """No count, no knowledge."""
    assert (lower_bound(0, 0, 0.05), upper_bound(0, 0, 0.05)) == (0.0, 1.0)
    assert quantile_bounds(Histogram((1.0,), (0, 0)), 0.5, 0.05) == (0.0, math.inf)


@pytest.mark.parametrize(("total", "share"), [(5, 0.001), (300, 0.001), (300, 0.3), (3000, 0.05)])
def test_a_bound_on_a_share_is_wrong_no_more_often_than_it_says(total: int, share: float) -> None:
    """Summed over all outcomes; the common approximations fail this at five trials."""
    odds = 0.0005
    chance = 1.0
    for hits in range(total + 1):
        if lower_bound(hits, total, odds) > share:
            break
        chance -= math.comb(total, hits) * share**hits * (1 - share) ** (total - hits)

    assert chance <= odds + 1e-12


@pytest.mark.parametrize("total", [7, 50, 800, 3000])
def test_a_bound_on_a_quantile_is_wrong_no_more_often_than_it_says(total: int) -> None:
    """A fine histogram of 4,000 samples each; 1 in 20, with three standard errors of grace."""
    rng = np.random.default_rng(1)
    bounds = tuple(np.linspace(0, 1, 2001)[1:].tolist())
    counts = rng.multinomial(total, [1 / 2000] * 2000, 4000)
    found = [quantile_bounds(Histogram(bounds, (*row.tolist(), 0)), 0.99, 0.05) for row in counts]

    assert np.mean([low > 0.99 for low, _ in found]) < 0.061
    assert np.mean([high < 0.9895 for _, high in found]) < 0.061


def test_a_quantile_beyond_what_was_observed_is_left_open() -> None:
    """Of ten requests nobody knows the slowest in a hundred."""
    assert quantile_bounds(Histogram((1.0, 2.0), (5, 5, 0)), 0.99, 0.0005).high == math.inf


@given(st.integers(1, 10_000), st.data(), st.floats(0.0001, 0.4))
def test_the_bounds_hold_the_share_that_was_seen(
    total: int, data: st.DataObject, odds: float
) -> None:
    """The estimate lies between its bounds, and both are shares."""
    hits = data.draw(st.integers(0, total))

    low, high = lower_bound(hits, total, odds), upper_bound(hits, total, odds)

    assert 0 <= low <= hits / total + 1e-9
    assert hits / total - 1e-9 <= high <= 1


def test_a_quantile_is_read_as_prometheus_reads_it() -> None:
    """Linear inside the bucket; beyond the last bound it is the last bound."""
    histogram = Histogram((1.0, 2.0, 4.0), (10, 10, 20, 10))

    assert quantile(histogram, 0.2) == pytest.approx(1.0)
    assert quantile(histogram, 0.5) == pytest.approx(2.5)
    assert quantile(histogram, 0.99) == pytest.approx(4.0)


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_with_their_share(counts: list[int], one: float, other: float) -> None:
    """A larger share never has a smaller quantile."""
    histogram = Histogram((1.0, 2.0, 4.0), tuple(counts))
    low, high = sorted((one, other))

    assume(histogram.total)

    assert quantile(histogram, low) <= quantile(histogram, high)
