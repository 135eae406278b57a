"""The scenarios and their verdict, without locust."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.scenarios import SCENARIOS, Result, Scenario, Thresholds, missed

THRESHOLDS = Thresholds(max_failed_ratio=0.01, max_p99_ms=100, min_rate=50)
GOOD = Result(requests=1000, failed=10, p99_ms=100, seconds=20)


def test_the_five_scenarios_are_there() -> None:
    """By the names of the documents."""
    assert SCENARIOS.keys() == {"steady", "spike", "ramp", "soak", "canary"}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_the_users_of_a_scenario_can_reach_its_rate(scenario: Scenario) -> None:
    """A paced scenario that could not would fail whatever the server does."""
    if scenario.pace_s:
        mean = sum(s.users * s.seconds for s in scenario.stages) / scenario.seconds
        assert mean / scenario.pace_s >= scenario.thresholds.min_rate


@given(st.sampled_from(list(SCENARIOS.values())), st.floats(1, 1e5))
def test_a_scenario_keeps_its_shape_at_any_length(scenario: Scenario, seconds: float) -> None:
    """Stages in the same proportion, and over when the time is."""
    resized = scenario.lasting(seconds)

    assert resized.seconds == pytest.approx(seconds)
    assert resized.users_at(0) == scenario.stages[0].users
    assert resized.users_at(seconds * 0.9999) == scenario.stages[-1].users
    assert resized.users_at(seconds * 1.0001) is None


def test_a_result_at_its_thresholds_passes() -> None:
    """They are limits, not strict ones."""
    assert missed(GOOD, THRESHOLDS) == []


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result(requests=1000, failed=11, p99_ms=100, seconds=20), "failed"),
        (Result(requests=1000, failed=0, p99_ms=101, seconds=20), "p99"),
        (Result(requests=1000, failed=0, p99_ms=50, seconds=21), "rate"),
        (Result(requests=0, failed=0, p99_ms=0, seconds=21), "no request"),
    ],
)
def test_a_missed_threshold_is_told_with_both_numbers(result: Result, expected: str) -> None:
    """What was expected, what came."""
    (text,) = missed(result, THRESHOLDS)

    assert text.startswith(expected)
