"""The rule of the Kubernetes Horizontal Pod Autoscaler."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.hpa import desired_replicas, desired_replicas_batch

CURRENT = st.integers(1, 1000)
RATIO = st.floats(0, 100)


@pytest.mark.parametrize(
    ("current", "value", "target", "desired"),
    [
        (4, 200, 100, 8),  # "if the current metric value is 200m, and the desired value is 100m"
        (4, 50, 100, 2),  # "if the current value is instead 50m"
        (4, 105, 100, 4),  # within the tolerance of 0.1
        (4, 110, 100, 4),  # at its edge
        (4, 111, 100, 5),
        (4, 90, 100, 4),
        (4, 89, 100, 4),  # outside, and rounded up again
        (4, 74, 100, 3),
        (3, 70, 70, 3),
        (10, 77, 70, 10),
        (10, 70.7, 70, 10),
        (1, 0, 70, 0),
    ],
)
def test_the_examples_of_the_documentation(
    current: int, value: float, target: float, desired: int
) -> None:
    """Ceil of current times ratio, unless the ratio lies within the tolerance."""
    assert desired_replicas(current, value / target) == desired


@given(current=CURRENT, ratio=RATIO, tolerance=st.floats(0, 0.5))
def test_the_rule_holds_for_any_state(current: int, ratio: float, tolerance: float) -> None:
    """Steady within the tolerance; outside it enough replicas, and never one too many."""
    desired = desired_replicas(current, ratio, tolerance=tolerance)

    if abs(ratio - 1) <= tolerance:
        assert desired == current
    elif abs(ratio - 1) > tolerance + 1e-6:
        assert desired >= current * ratio - 1e-6
        assert desired < current * ratio + 1


@given(current=CURRENT, lower=RATIO, higher=RATIO)
def test_more_load_never_wants_fewer_replicas(current: int, lower: float, higher: float) -> None:
    """The rule is monotonic in the metric."""
    lower, higher = sorted((lower, higher))

    assert desired_replicas(current, lower) <= desired_replicas(current, higher)


@given(states=st.lists(st.tuples(CURRENT, RATIO), min_size=1, max_size=20))
def test_a_batch_wants_what_each_state_wants_alone(states: list[tuple[int, float]]) -> None:
    """One implementation serves both."""
    current, ratio = (np.array(column) for column in zip(*states, strict=True))

    batch = desired_replicas_batch(current, ratio)

    assert batch.tolist() == [desired_replicas(c, r) for c, r in states]


def test_a_product_that_is_whole_on_paper_is_not_rounded_up() -> None:
    """10 times 0.7 is 7.000000000000001 in binary for some ratios; it is still 7."""
    for current in range(1, 200):
        for percent in (50, 60, 70, 80, 120, 130, 150):
            product = current * percent
            desired = desired_replicas(current, percent / 100)
            assert desired == -(-product // 100), (current, percent)


@pytest.mark.parametrize("ratio", [-0.1, math.nan, math.inf, -math.inf])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    """NaN must never become a replica count."""
    with pytest.raises(InvalidRequest, match="metric ratio: expected a finite number"):
        desired_replicas(3, ratio)


def test_no_replica_cannot_be_scaled() -> None:
    """There is nothing to multiply; Kubernetes leaves a workload of 0 alone as well."""
    with pytest.raises(InvalidRequest, match="current replicas: expected at least 1, got 0"):
        desired_replicas(0, 1.0)
