"""Whether a load's changes go on, learnt from the load itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nimbusguard.policy.trend import LAG, Trend, follow, rise, unknown


def after(demand: NDArray[np.float64], interval_s: float = 15.0) -> Trend:
    trend = unknown(1)
    for each in demand:
        trend = follow(trend, np.array([each]), interval_s)
    return trend


def test_what_was_never_seen_is_not_expected_to_rise() -> None:
    """Neither of an unknown load, nor of one of which no two changes in a row are known."""
    assert rise(unknown(2)).tolist() == [0.0, 0.0]
    assert rise(after(np.arange(5.0, 5.0 + 2 * LAG))).tolist() == [0.0]


def test_a_steady_rise_goes_on() -> None:
    """A tenth of a pod a decision for two hours: three tenths more within three decisions."""
    assert rise(after(5.0 + 0.1 * np.arange(480.0))) == pytest.approx([0.1 * LAG])


def test_a_steady_fall_is_no_rise() -> None:
    """Pods are not removed because a load is expected to fall."""
    assert rise(after(60.0 - 0.1 * np.arange(480.0))).tolist() == [0.0]


def test_changes_that_turn_round_do_not_go_on() -> None:
    """Three decisions up, three down, for two hours, and now up: nothing more is expected."""
    wave = np.tile([5.0, 6.0, 7.0, 8.0, 7.0, 6.0], 80)

    assert rise(after(np.concatenate((wave, [5.0, 6.0, 7.0, 8.0])))).tolist() == [0.0]


def test_of_a_drifting_load_about_as_much_is_expected_as_its_changes_keep() -> None:
    """A load that keeps half of each change in the next: 0.5 within the scatter of two hours."""
    rng = np.random.default_rng(3)
    changes = np.zeros(480)
    for step in range(1, 480):
        changes[step] = 0.5 ** (1 / LAG) * changes[step - 1] + rng.normal()
    trend = after(100.0 + 0.1 * np.cumsum(changes))

    assert 0.2 < trend.product[0] / trend.square[0] < 0.8


def test_an_absent_demand_changes_nothing() -> None:
    """A scrape that fails is no change of the load."""
    before = after(5.0 + 0.1 * np.arange(40.0))

    blind = follow(before, np.array([np.nan]), 15.0)

    for old, new in zip(before, blind, strict=True):
        assert np.array_equal(old, new)


@given(st.lists(st.floats(0.0, 1e9), min_size=1, max_size=60))
def test_no_more_is_expected_than_the_last_change(demand: list[float]) -> None:
    """Finite, at least 0, at most what the last three decisions brought."""
    trend = after(np.array(demand))
    expected = rise(trend)[0]

    assert np.isfinite(expected)
    assert 0.0 <= expected <= max(demand)
