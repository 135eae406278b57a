"""The reserve: what is remembered of a load, and what is kept above it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nimbusguard.policy.reserve import Held, ReserveSettings, carried_by, hold, needed

SETTINGS = ReserveSettings()
UNKNOWN = Held(np.array([np.nan]), np.array([np.nan]))


def array(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def follow(
    demand: NDArray[np.float64], held: Held = UNKNOWN, interval_s: float = 15.0, found: float = 0.0
) -> Held:
    for each in demand:
        held = hold(SETTINGS, held, array(each), array(found), interval_s)
    return held


def test_a_peak_rises_at_once_and_leaks_with_its_time_constant() -> None:
    """From 10 towards 4: after 120 s 6 / e are left of the difference."""
    held = follow(array(4.0, 10.0))
    assert held.peak.tolist() == [10.0]

    held = follow(np.full(8, 4.0), held)

    assert held.peak[0] == pytest.approx(4.0 + 6.0 * np.exp(-1.0))


def test_the_mean_moves_with_its_time_constant() -> None:
    """A step from 4 to 10 has gone 1 - 1/e of its way after a quarter of an hour."""
    held = follow(np.full(60, 10.0), follow(array(4.0)))

    assert held.mean[0] == pytest.approx(10.0 - 6.0 * np.exp(-1.0))


def test_a_shorter_interval_forgets_no_faster() -> None:
    """Memory is in seconds: 24 observations 5 s apart are 8 observations 15 s apart."""
    often = follow(np.full(24, 4.0), follow(array(10.0)), interval_s=5.0)
    seldom = follow(np.full(8, 4.0), follow(array(10.0)))

    assert often.peak == pytest.approx(seldom.peak)
    assert often.mean == pytest.approx(seldom.mean)


def test_what_is_not_known_changes_nothing() -> None:
    """An absent demand leaves both as they are, also before anything was known."""
    before = follow(array(7.0, 5.0))

    after = follow(array(np.nan), before)

    assert after == before
    assert np.isnan(follow(array(np.nan)).peak).all()
    assert needed(SETTINGS, UNKNOWN, array(0.3)).tolist() == [0.0]


@pytest.mark.parametrize(
    ("roughness", "need"),
    [
        (0.0, 9.0 + 0.4 * 3.0),  # the peak's margin
        (0.04, 9.0 + 0.4 * 3.0),
        (0.14, 9.0 * 1.14 + 0.4 * 3.0),
        # 4 x (1 + 3.6 x 0.96) above the mean is more than 9 x (1 + 1.4 x 0.96) is not
        (1.0, 9.0 * (1 + 1.4 * 0.96) + 0.4 * 3.0),
    ],
)
def test_headroom_grows_with_the_roughness_beyond_the_smooth(roughness: float, need: float) -> None:
    """Peak 9, mean 4."""
    held = Held(array(9.0), array(4.0))

    assert needed(SETTINGS, held, array(roughness)) == pytest.approx(array(need))


def test_the_mean_rules_where_the_load_has_long_been_as_high_and_is_rough() -> None:
    """Peak and mean 9 at a roughness of 0.24: 9 x (1 + 3.6 x 0.2) + 0.3 x 3."""
    held = Held(array(9.0), array(9.0))

    assert needed(SETTINGS, held, array(0.24)) == pytest.approx(array(16.38))


@given(st.integers(0, 200), st.floats(0.0, 1.0))
def test_what_was_found_is_the_peak_that_asks_for_it(pods: int, roughness: float) -> None:
    """`carried_by` is the inverse of what is needed above a peak."""
    peak = carried_by(SETTINGS, np.array([pods]), array(roughness))

    need = needed(SETTINGS, Held(peak, array(0.0)), array(roughness))

    assert need == pytest.approx(array(float(pods)), abs=1e-6)


@given(st.lists(st.floats(0.0, 1e9), min_size=1, max_size=40), st.floats(0.0, 1.0))
def test_the_reserve_is_never_less_than_the_newest_demand(
    demand: list[float], roughness: float
) -> None:
    """Nor less than the mean, and always finite."""
    held = follow(np.array(demand))
    need = needed(SETTINGS, held, array(roughness))[0]

    assert np.isfinite(need)
    assert need >= demand[-1]
    assert need >= held.mean[0] * (1 - 1e-9)
