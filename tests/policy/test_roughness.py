"""Roughness: smooth loads have little, rough ones much, a gap none, and one step not everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nimbusguard.policy.roughness import UNKNOWN, Watched, watch

INTERVAL_S = 15.0
HOUR = 240
"""Decisions in an hour."""
NEW = Watched(np.array([np.nan]), np.array([0.0]))


def follow(busy: NDArray[np.float64], seen: Watched = NEW) -> Watched:
    for value in busy:
        seen = watch(seen, np.array([value]), INTERVAL_S)
    return seen


def roughness(seen: Watched) -> float:
    return float(np.sqrt(seen.mean_square[0]))


def test_a_constant_load_has_none() -> None:
    """Its distance from its own mean is zero from the first observation on."""
    assert roughness(follow(np.full(HOUR, 12.0))) == 0.0


def test_a_day_that_rises_and_falls_is_smooth() -> None:
    """Between 4 and 16 pods within twelve hours: far below what gets headroom (0.05)."""
    hours = np.arange(24 * HOUR) / HOUR
    day = 10.0 - 6.0 * np.cos(2.0 * np.pi * hours / 24.0)

    assert roughness(follow(day)) < 0.01


@pytest.mark.parametrize(("spread", "low", "high"), [(0.05, 0.03, 0.08), (0.25, 0.14, 0.33)])
def test_the_roughness_of_noise_is_about_its_own_spread(
    spread: float, low: float, high: float
) -> None:
    """Minutes that scatter by 5 % are as smooth as a football site, by 25 % as rough as NASA."""
    minutes = np.random.default_rng(1).normal(1.0, spread, 240).clip(0.2)

    assert low < roughness(follow(10.0 * np.repeat(minutes, 4))) < high


def test_a_rough_workload_that_calms_down_is_smooth_an_hour_or_two_later() -> None:
    """The memory of half an hour: after two hours e**-4 of the square is left, 14 % of the root."""
    rough = follow(np.array([5.0, 15.0] * HOUR))

    calm = follow(np.full(2 * HOUR, 10.0), rough)

    assert roughness(rough) > UNKNOWN
    assert roughness(calm) < 0.15 * roughness(rough)


def test_one_step_counts_as_a_doubling_at_most() -> None:
    """A hundredfold step is one event; its square enters as 1, with the weight of 15 s."""
    steady = follow(np.full(HOUR, 5.0))

    doubled = watch(steady, np.array([10.0]), INTERVAL_S)
    leapt = watch(steady, np.array([500.0]), INTERVAL_S)

    assert leapt.mean_square == pytest.approx(doubled.mean_square)
    assert roughness(leapt) == pytest.approx(np.sqrt(1.0 - np.exp(-15.0 / 1800.0)))


def test_below_one_busy_pod_noise_is_not_roughness() -> None:
    """Between a tenth and three tenths of a pod the load trebles, and no pod is needed for it."""
    assert roughness(follow(np.array([0.1, 0.3] * HOUR))) < 0.15


@pytest.mark.parametrize("absent", [float("nan"), float("inf"), -float("inf")])
def test_an_absent_observation_changes_nothing(absent: float) -> None:
    """Neither before the first that counts nor afterwards."""
    known = follow(np.array([4.0, 6.0, 5.0]))
    for seen in (NEW, known):
        after = watch(seen, np.array([absent]), INTERVAL_S)

        assert np.array_equal(after.level, seen.level, equal_nan=True)
        assert np.array_equal(after.mean_square, seen.mean_square)


LOADS = st.lists(st.floats(0.0, 200.0), min_size=1, max_size=60)


@given(LOADS, st.floats(0.0, 1.0))
def test_roughness_stays_between_none_and_one(busy: list[float], before: float) -> None:
    """And the level between the lowest and the highest load that was seen."""
    seen = follow(np.array(busy), Watched(np.array([np.nan]), np.array([before**2])))

    assert 0.0 <= roughness(seen) <= 1.0
    assert min(busy) - 1e-9 <= seen.level[0] <= max(busy) + 1e-9


@given(LOADS, st.floats(1.0, 20.0))
def test_roughness_is_relative(busy: list[float], factor: float) -> None:
    """A service of thrice the size is as rough, as long as it keeps a pod busy."""
    load = 1.0 + np.array(busy)

    assert roughness(follow(factor * load)) == pytest.approx(roughness(follow(load)), rel=1e-6)


@given(st.lists(st.lists(st.floats(0.0, 100.0), min_size=3, max_size=3), min_size=1, max_size=20))
def test_many_rows_are_watched_as_each_alone(rows: list[list[float]]) -> None:
    """Training watches thousands of lanes with what watches one in the operator."""
    loads = np.array(rows)  # (T, 3)
    together = Watched(np.full(3, np.nan), np.full(3, UNKNOWN**2))
    for row in loads:
        together = watch(together, row, INTERVAL_S)

    for lane in range(3):
        alone = follow(loads[:, lane], Watched(np.array([np.nan]), np.array([UNKNOWN**2])))
        assert alone.level[0] == together.level[lane]
        assert alone.mean_square[0] == together.mean_square[lane]
