"""Choosing an action: the best allowed one, and nothing else ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.actions import ACTION_NAMES, ScaleAction
from nimbusguard.policy.greedy import Choice, choose

Q_VALUE = st.one_of(
    st.sampled_from([-1.0, 0.0, 1.0]),  # ties
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
Q_ROW = st.lists(Q_VALUE, min_size=5, max_size=5)
REPLICAS = st.integers(0, 100)
BOUNDS = st.tuples(REPLICAS, REPLICAS).map(sorted)
PREFERRED = (
    ScaleAction.NO_ACTION,
    ScaleAction.SCALE_UP_1,
    ScaleAction.SCALE_DOWN_1,
    ScaleAction.SCALE_UP_2,
    ScaleAction.SCALE_DOWN_2,
)


def choose_one(q_values: list[float], current: int, minimum: int, maximum: int) -> Choice:
    columns = (np.array([value], dtype=np.int64) for value in (current, minimum, maximum))
    return choose(np.array([q_values], dtype=np.float32), *columns)


@given(q_values=Q_ROW, current=REPLICAS, bounds=BOUNDS)
def test_the_choice_is_the_best_allowed_action(
    q_values: list[float], current: int, bounds: list[int]
) -> None:
    """A masked one is never chosen, and no allowed one has a higher Q-value."""
    choice = choose_one(q_values, current, *bounds)

    action = int(choice.action[0])
    allowed = choice.allowed[0]
    assert allowed[action]
    assert q_values[action] == max(q for q, ok in zip(q_values, allowed, strict=True) if ok)


@given(q_values=Q_ROW, current=REPLICAS, bounds=BOUNDS)
def test_the_target_lies_within_the_bounds_or_nearer(
    q_values: list[float], current: int, bounds: list[int]
) -> None:
    """No choice leads further away from where a workload may be."""
    choice = choose_one(q_values, current, *bounds)

    target, (minimum, maximum) = int(choice.target[0]), bounds
    now = max(minimum - current, current - maximum, 0)
    then = max(minimum - target, target - maximum, 0)
    assert then == 0 or then < now or target == current
    assert target >= 0


@given(q_values=Q_ROW, current=REPLICAS, bounds=BOUNDS)
def test_equal_q_values_go_to_the_smallest_change_then_to_the_addition(
    q_values: list[float], current: int, bounds: list[int]
) -> None:
    """The first of the preferred order among the allowed actions with the highest Q-value."""
    choice = choose_one(q_values, current, *bounds)

    allowed = [action for action in PREFERRED if choice.allowed[0][action]]
    best = max(q_values[action] for action in allowed)
    assert choice.action[0] == next(a for a in allowed if q_values[a] == best)


@given(q_values=Q_ROW, current=REPLICAS, bounds=BOUNDS)
def test_the_margin_is_the_lead_over_the_next_best(
    q_values: list[float], current: int, bounds: list[int]
) -> None:
    """Finite, never negative, and 0 where only one action is allowed."""
    choice = choose_one(q_values, current, *bounds)

    singles = np.array(q_values, dtype=np.float32).astype(np.float64)
    ranked = sorted(singles[choice.allowed[0]], reverse=True)
    assert choice.margin[0] == (ranked[0] - ranked[1] if len(ranked) > 1 else 0.0)
    assert np.isfinite(choice.margin[0])


@given(rows=st.lists(st.tuples(Q_ROW, REPLICAS, BOUNDS), min_size=1, max_size=8))
def test_a_batch_chooses_as_each_row_alone(
    rows: list[tuple[list[float], int, list[int]]],
) -> None:
    """Rows have no say in each other's choice."""
    columns = (
        np.array(values, dtype=np.int64)
        for values in zip(*((current, *bounds) for _, current, bounds in rows), strict=True)
    )
    batch = choose(np.array([q for q, *_ in rows], dtype=np.float32), *columns)

    for index, (q_values, current, bounds) in enumerate(rows):
        alone = choose_one(q_values, current, *bounds)
        for part, whole in zip(alone, batch, strict=True):
            np.testing.assert_array_equal(part[0], whole[index])


@pytest.mark.parametrize(
    ("q_values", "current", "action"),
    [
        ([0, 0, 0, 0, 0], 5, "NO_ACTION"),
        ([0, 1, 0, 1, 0], 5, "SCALE_UP_1"),
        ([1, 0, 0, 0, 1], 5, "SCALE_UP_2"),
        ([1, 1, 0, 0, 0], 5, "SCALE_DOWN_1"),
        ([9, 8, 0, 0, 1], 1, "SCALE_UP_2"),
        ([0, 0, -1, 8, 9], 50, "SCALE_DOWN_1"),
    ],
)
def test_ties_and_masks_by_example(q_values: list[float], current: int, action: str) -> None:
    """With the default bounds of 1 and 50."""
    choice = choose_one(q_values, current, 1, 50)

    assert ACTION_NAMES[choice.action[0]] == action
