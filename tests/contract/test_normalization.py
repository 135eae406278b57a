"""Raw values to the state and back; absence first, then bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nimbusguard.contract.features import FEATURES, MAXIMUM, MINIMUM, NAMES, Absence
from nimbusguard.contract.normalization import (
    absent_as_zero_mask,
    denormalize,
    impute,
    names_of,
    normalize,
)

SPAN = MAXIMUM - MINIMUM
SHAPES = st.tuples(st.integers(1, 5), st.just(len(FEATURES)))
UNIT = hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32))
ANY = hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=False))
WITH_ABSENT = hnp.arrays(
    np.float64,
    SHAPES,
    elements=st.one_of(st.just(math.nan), st.just(0.0), st.floats()),
)


@given(unit=UNIT)
def test_a_state_comes_back_from_its_raw_values(unit: np.ndarray) -> None:
    """State to raw values to state: equal to the last bit but one."""
    state = normalize(denormalize(unit)).state

    assert np.abs(state - unit).max() <= 2**-23


@given(unit=UNIT)
def test_raw_values_inside_the_bounds_come_back(unit: np.ndarray) -> None:
    """Raw values to state to raw values, as exactly as float32 can."""
    raw = MINIMUM + unit.astype(np.float64) * SPAN

    normalized = normalize(raw)

    assert not normalized.clipped[(raw >= MINIMUM) & (raw <= MAXIMUM)].any()
    assert (np.abs(denormalize(normalized.state) - raw) <= SPAN * 2**-23).all()


@given(raw=ANY)
def test_a_state_lies_between_0_and_1_whatever_comes(raw: np.ndarray) -> None:
    """Float32, without NaN, and clipped is exactly what lay outside."""
    state, clipped = normalize(raw)

    assert state.dtype == np.float32
    assert ((state >= 0) & (state <= 1)).all()
    assert (clipped == ((raw < MINIMUM) | (raw > MAXIMUM))).all()


def test_the_bounds_themselves_are_not_clipped() -> None:
    """They are 0 and 1 exactly; infinity is 1 as well, and clipped."""
    low, low_clipped = normalize(MINIMUM[None])
    high, high_clipped = normalize(MAXIMUM[None])
    beyond, beyond_clipped = normalize(np.full((1, len(FEATURES)), np.inf))

    assert (low == 0).all()
    assert (high == 1).all()
    assert (beyond == 1).all()
    assert not low_clipped.any()
    assert not high_clipped.any()
    assert beyond_clipped.all()


@given(raw=ANY, feature=st.integers(0, len(FEATURES) - 1), more=st.floats(0, 1e300))
def test_more_of_a_feature_is_never_less_of_a_state(
    raw: np.ndarray, feature: int, more: float
) -> None:
    """Normalization keeps the order of values."""
    raised = raw.copy()
    with np.errstate(over="ignore"):
        raised[:, feature] += more

    assert (normalize(raised).state[:, feature] >= normalize(raw).state[:, feature]).all()


@given(raw=WITH_ABSENT)
def test_absence_is_zero_only_where_the_table_says_so(raw: np.ndarray) -> None:
    """Against the rule written out, number by number."""
    values, imputed, refused = impute(raw)

    for row in range(len(raw)):
        idle = raw[row, 3] == 0
        for column, feature in enumerate(FEATURES):
            value = raw[row, column]
            is_zero = feature.absence is Absence.ZERO or (
                feature.absence is Absence.ZERO_WITHOUT_TRAFFIC and idle
            )
            if math.isnan(value):
                assert imputed[row, column] == is_zero
                assert refused[row, column] != is_zero
                assert not is_zero or values[row, column] == 0
            else:
                assert not imputed[row, column]
                assert refused[row, column] == (value == -math.inf)
                assert values[row, column] == value


@given(raw=WITH_ABSENT)
def test_a_row_is_treated_alike_alone_and_in_a_batch(raw: np.ndarray) -> None:
    """No row has a say in the fate of its neighbours."""
    together = impute(raw)

    for row in range(len(raw)):
        alone = impute(raw[row : row + 1])
        for part, whole in zip(alone, together, strict=True):
            np.testing.assert_array_equal(part[0], whole[row])


def test_an_operator_may_declare_absence_to_mean_zero() -> None:
    """`ABSENT_AS_ZERO` holds for the features that it names, with traffic or without."""
    raw = np.array([[0.5, 0.5, 10, 85, 4, np.nan, np.nan, 1, 0, 0.5, 0.5]])

    values, imputed, refused = impute(raw, absent_as_zero_mask(("response_time_p95",)))

    assert names_of(imputed[0]) == ["response_time_p95"]
    assert names_of(refused[0]) == ["error_rate"]
    assert values[0, NAMES.index("response_time_p95")] == 0


def test_an_unknown_feature_cannot_be_declared() -> None:
    """A misspelt declaration must not pass in silence."""
    with pytest.raises(KeyError, match="latency"):
        absent_as_zero_mask(("latency",))


def test_raw_values_are_left_as_they_were() -> None:
    """The caller's matrix may be a view of what came over the wire."""
    raw = np.array([[0.5, 0.5, 10, 0, 4, np.nan, np.nan, np.nan, 0, 0.5, 2.0]])
    before = raw.copy()

    normalize(impute(raw).values)

    np.testing.assert_array_equal(raw, before)
