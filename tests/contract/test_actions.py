"""Which actions bounds allow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.actions import (
    ACTION_NAMES,
    CHANGES,
    ScaleAction,
    allowed_actions,
    distance_to_bounds,
)

REPLICAS = st.integers(0, 1_000_000)


def mask_of(current: int, minimum: int, maximum: int) -> list[str]:
    columns = (np.array([value], dtype=np.int64) for value in (current, minimum, maximum))
    mask = allowed_actions(*columns)[0]
    return [name for name, allowed in zip(ACTION_NAMES, mask, strict=True) if allowed]


def test_the_five_actions_are_the_specified_ones() -> None:
    """Index, name and change."""
    assert [(int(a), a.name, a.change) for a in ScaleAction] == [
        (0, "SCALE_DOWN_2", -2),
        (1, "SCALE_DOWN_1", -1),
        (2, "NO_ACTION", 0),
        (3, "SCALE_UP_1", 1),
        (4, "SCALE_UP_2", 2),
    ]
    assert CHANGES.tolist() == [-2, -1, 0, 1, 2]


def test_inside_the_bounds_an_action_may_not_leave_them() -> None:
    """At the lower bound nothing goes down, one above it only one step does."""
    assert mask_of(1, 1, 50) == ["NO_ACTION", "SCALE_UP_1", "SCALE_UP_2"]
    assert mask_of(2, 1, 50) == ["SCALE_DOWN_1", "NO_ACTION", "SCALE_UP_1", "SCALE_UP_2"]
    assert mask_of(49, 1, 50) == ["SCALE_DOWN_2", "SCALE_DOWN_1", "NO_ACTION", "SCALE_UP_1"]
    assert mask_of(50, 1, 50) == ["SCALE_DOWN_2", "SCALE_DOWN_1", "NO_ACTION"]


def test_outside_the_bounds_an_action_may_lead_back() -> None:
    """Nearer than now is allowed, even where two steps shoot past a narrow range."""
    assert mask_of(60, 1, 50) == ["SCALE_DOWN_2", "SCALE_DOWN_1", "NO_ACTION"]
    assert mask_of(0, 3, 50) == ["NO_ACTION", "SCALE_UP_1", "SCALE_UP_2"]
    assert mask_of(4, 5, 5) == ["NO_ACTION", "SCALE_UP_1"]


def test_equal_bounds_allow_nothing_but_to_stay() -> None:
    """A pinned workload stays where it is."""
    assert mask_of(5, 5, 5) == ["NO_ACTION"]


@given(current=REPLICAS, bounds=st.tuples(REPLICAS, REPLICAS).map(sorted))
def test_an_allowed_action_ends_within_the_bounds_or_nearer(
    current: int, bounds: list[int]
) -> None:
    """Every other action is refused, and to stay is always allowed."""
    minimum, maximum = bounds
    allowed = mask_of(current, minimum, maximum)

    assert "NO_ACTION" in allowed
    for action in ScaleAction:
        target = current + action.change
        now = max(minimum - current, current - maximum, 0)
        then = max(minimum - target, target - maximum, 0)
        is_right = action is ScaleAction.NO_ACTION or then == 0 or then < now
        assert (action.name in allowed) == is_right


@given(replicas=REPLICAS, bounds=st.tuples(REPLICAS, REPLICAS).map(sorted))
def test_the_distance_is_zero_exactly_inside(replicas: int, bounds: list[int]) -> None:
    """And outside it is the number of replicas to the nearer bound."""
    minimum, maximum = bounds
    columns = (np.array([value], dtype=np.int64) for value in (replicas, minimum, maximum))
    distance = int(distance_to_bounds(*columns)[0])

    assert (distance == 0) == (minimum <= replicas <= maximum)
    assert replicas in (minimum - distance, maximum + distance) or distance == 0
