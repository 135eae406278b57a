"""Records and their rows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.records import OUTCOME_COLUMNS, Experience, Outcome, from_row, to_row
from nimbusguard.contract.errors import InvalidRequest
from tests.autoscaler.harness import EXPERIENCES, OUTCOMES, experience, outcome


@given(EXPERIENCES, st.none() | OUTCOMES)
def test_a_record_comes_back_from_its_row(decision: Experience, later: Outcome | None) -> None:
    """Every value, every None, bit by bit."""
    tail = to_row(later) if later else (None,) * len(OUTCOME_COLUMNS)

    assert from_row((*to_row(decision), *tail)) == (decision, later)


def test_an_absent_metric_comes_back_as_absent() -> None:
    """NaN survives, which it would not as JSON."""
    decision = experience(raw=(math.nan,) * 11)

    back, _ = from_row((*to_row(decision), *(None,) * len(OUTCOME_COLUMNS)))

    assert all(math.isnan(value) for value in back.raw)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("raw", (1.0,)),
        ("state", (1.0,) * 12),
        ("allowed", (True,) * 4),
        ("q_values", ()),
        ("propensity", 0.0),
        ("propensity", 1.1),
        ("propensity", math.nan),
    ],
)
def test_a_decision_that_cannot_be_is_not_recorded(field: str, value: object) -> None:
    """The message names the field."""
    with pytest.raises(InvalidRequest, match=f"{field}: expected"):
        experience(**{field: value})


@pytest.mark.parametrize("field", ["next_raw", "next_state"])
def test_an_outcome_that_cannot_be_is_not_recorded(field: str) -> None:
    """The message names the field."""
    with pytest.raises(InvalidRequest, match=f"{field}: expected 11 values, got 3"):
        outcome(**{field: (1.0,) * 3})
