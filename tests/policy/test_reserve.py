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
    busy: NDArray[np.float64], held: Held = UNKNOWN, interval_s: float = 15.0, found: float = 1e9
) -> Held:
    for each in busy:
        demand = array(each)
        held = hold(
            SETTINGS,
            held,
            demand,
            coming=demand,
            found=Held(array(0.0), array(found)),
            interval_s=interval_s,
        )
    return held


def test_a_peak_rises_at_once_and_leaks_with_its_time_constant() -> None:
    """From 10 towards 4: after 105 s 6 / e are left of the difference."""
    held = follow(array(4.0, 10.0))
    assert held.peak.tolist() == [10.0]

    held = follow(np.full(7, 4.0), held)

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
        (0.0, 9.0 + 0.36 * 3.0),  # the peak's margin
        (0.03, 9.0 + 0.36 * 3.0),
        (0.13, 9.0 * 1.11 + 0.36 * 3.0),
        # The mean's 4 x (1 + 3.8 x 0.97) is still less.
        (1.0, 9.0 * (1 + 1.1 * 0.97) + 0.36 * 3.0),
    ],
)
def test_headroom_grows_with_the_roughness_beyond_the_smooth(roughness: float, need: float) -> None:
    """Peak 9, mean 4."""
    held = Held(array(9.0), array(4.0))

    assert needed(SETTINGS, held, array(roughness)) == pytest.approx(array(need))


def test_the_mean_rules_where_the_load_has_long_been_as_high_and_is_rough() -> None:
    """Peak and mean 9 at a roughness of 0.23: 9 x (1 + 3.8 x 0.2) + 0.2 x 3."""
    held = Held(array(9.0), array(9.0))

    assert needed(SETTINGS, held, array(0.23)) == pytest.approx(array(16.44))


def test_after_a_load_has_ended_its_mean_counts_no_more_than_its_peak() -> None:
    """Ten busy pods for an hour, then none: after ten minutes no pod is kept for them."""
    held = follow(np.concatenate((np.full(240, 10.0), np.zeros(40))))

    assert held.mean[0] > 5.0
    assert needed(SETTINGS, held, array(0.3))[0] < 1.0


def test_a_rise_that_is_expected_lifts_the_peak_and_not_the_mean() -> None:
    """Demand 5, expected to be 7."""
    held = hold(
        SETTINGS, follow(array(5.0)), array(5.0), coming=array(7.0), found=UNKNOWN, interval_s=15
    )

    assert held.peak.tolist() == [7.0]
    assert held.mean.tolist() == [5.0]


@given(st.integers(0, 200), st.floats(0.0, 1.0))
def test_what_was_found_asks_for_what_was_found(pods: int, roughness: float) -> None:
    """`carried_by` is the inverse of what is needed above a peak."""
    found = carried_by(SETTINGS, np.array([pods]), array(roughness))

    need = needed(SETTINGS, Held(found.peak, array(0.0)), array(roughness))

    assert need == pytest.approx(array(float(pods)), abs=1e-6)


def test_a_mean_that_nobody_watched_asks_for_no_more_than_was_found() -> None:
    """Ten busy pods on twelve at a start: for ten minutes the mean asks for no thirteenth."""
    rough, busy = array(0.15), array(10.0)
    found = carried_by(SETTINGS, np.array([12]), rough)
    held = UNKNOWN

    for _ in range(40):
        held = hold(SETTINGS, held, busy, coming=busy, found=found, interval_s=15.0)

    share = 1 + SETTINGS.mean_headroom * (0.15 - SETTINGS.smooth)
    assert found.mean[0] < held.mean[0] < 10.0
    assert share * found.mean[0] + SETTINGS.mean_margin * np.sqrt(found.mean[0]) == pytest.approx(
        11
    )


@given(st.lists(st.floats(0.0, 1e9), min_size=1, max_size=40), st.floats(0.0, 1.0))
def test_the_reserve_is_never_less_than_the_newest_demand(
    demand: list[float], roughness: float
) -> None:
    """And always finite."""
    held = follow(np.array(demand))
    need = needed(SETTINGS, held, array(roughness))[0]

    assert np.isfinite(need)
    assert need >= demand[-1]
