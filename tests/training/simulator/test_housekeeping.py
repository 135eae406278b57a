"""The kubelet's readings of CPU: their times, and what the metrics API makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.simulator.draws import Purpose, uniform
from training.simulator.housekeeping import CONTAINERS, last_reading, reading_times
from training.simulator.metrics import History, Lanes, Series, serving_cpu

SEEDS = np.arange(1, 200, dtype=np.uint64)
READINGS = np.arange(-20.0, 200.0)
METRICS_API_S = 15.0


def times(seed: int, container: int) -> NDArray[np.float64]:
    """Times of many readings of one container of one lane."""
    return reading_times(np.full(len(READINGS), seed, dtype=np.uint64), container, READINGS)


def test_readings_come_in_order_8_to_22_seconds_apart_and_every_15_in_the_mean() -> None:
    """The interval of 10 s plus up to its own length at random: mean 15 s, deviation 2.9 s."""
    apart = np.concatenate([np.diff(times(int(seed), 0)) for seed in SEEDS])

    assert apart.min() >= 8.0
    assert apart.max() <= 22.0
    assert apart.mean() == pytest.approx(15.0, abs=0.05)
    assert apart.std() == pytest.approx(10.0 / np.sqrt(12.0), rel=0.02)


def test_equal_seeds_read_at_equal_times_and_containers_at_their_own() -> None:
    """Common random numbers: the times come from lane, container and number alone."""
    assert np.array_equal(times(5, 1), times(5, 1))
    assert not np.array_equal(times(5, 1), times(6, 1))
    assert not np.array_equal(times(5, 1), times(5, 2))


@given(st.integers(1, 10_000), st.integers(0, CONTAINERS - 1), st.floats(-200.0, 50_000.0))
def test_the_last_reading_is_the_newest_of_those_not_after_a_time(
    seed: int, container: int, by_s: float
) -> None:
    """It is at or before that time, and the next one is after it."""
    lane, asked = np.array([seed], dtype=np.uint64), np.array([by_s])

    found = last_reading(lane, container, asked)

    assert reading_times(lane, container, found) <= asked
    assert reading_times(lane, container, found + 1.0) > asked


def test_the_last_reading_counts_among_all_readings_as_a_search_does() -> None:
    """Against a search through the sorted times, each second of half an hour."""
    every = times(3, 2)
    asked = np.arange(0.0, 1800.0)

    found = last_reading(np.full(len(asked), 3, dtype=np.uint64), 2, asked)

    assert np.array_equal(found, READINGS[np.searchsorted(every, asked, side="right") - 1])


def history_of(counter: NDArray[np.float64]) -> History:
    """One lane whose CPU counter had these values at second 0, 1 and so on."""
    history = History(1)
    for second, value in enumerate(counter):
        history.row(second)[Series.CPU] = value
    return history


def asked_at(age_s: int, seed: int) -> Lanes:
    return Lanes(np.array([seed], dtype=np.uint64), {}, np.array([age_s]), np.array([0]))


def test_the_metrics_api_gives_the_slope_between_two_readings() -> None:
    """A counter with a curve tells the readings apart: t²/100 has the slope (a + b)/100."""
    seed = 4
    history = history_of(np.arange(200.0) ** 2 / 100.0)
    phase = uniform(np.array([seed], dtype=np.uint64), 1, Purpose.SCRAPE_JITTER)[0] * METRICS_API_S
    for age_s in range(100, 190, 7):
        scraped = phase + METRICS_API_S * ((age_s - phase) // METRICS_API_S)
        slopes = []
        for container in range(CONTAINERS):
            read = times(seed, container)
            newest = read[read <= scraped]
            # The scrape before may have found the same reading; then it is the one before that.
            older = newest[newest <= scraped - METRICS_API_S]
            pair = (min(older[-1], newest[-2]), newest[-1])
            slopes.append(sum(np.floor(pair)) / 100.0)

        found = serving_cpu(history, asked_at(age_s, seed))[0]

        assert found == pytest.approx(np.mean(slopes), rel=1e-3)


def test_a_step_in_load_reaches_the_metrics_api_within_a_minute_and_not_at_once() -> None:
    """A scrape of 15 s, a reading of up to 22 s, and the one before it: 37 s to 59 s in all."""
    step_s = 120
    seconds = np.arange(250.0)
    history = history_of(0.4 * seconds + 0.4 * np.maximum(seconds - step_s, 0.0))
    firsts, fulls = [], []
    for seed in range(1, 40):
        seen = np.array(
            [serving_cpu(history, asked_at(age_s, seed))[0] for age_s in range(step_s, 200)]
        )
        assert (np.diff(seen) > -1e-3).all()
        assert seen[0] == pytest.approx(0.4, abs=1e-3)
        assert seen[59] == pytest.approx(0.8, abs=1e-3)
        firsts.append(int(np.argmax(seen > 0.41)))
        fulls.append(int(np.argmax(seen > 0.79)))

    assert np.mean(firsts) > 3.0
    assert 22.0 < np.mean(fulls) < 55.0
