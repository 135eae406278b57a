"""The shipped rules in a real Prometheus over a real service under real load."""

from __future__ import annotations

import math

import pytest

from nimbusguard.contract.features import NAMES
from tests.live.stack import LiveStack

pytestmark = pytest.mark.service

LOW = 6.0
HIGH = 100.0
"""Requests per second to two pods, which can answer about 38 each."""


def complete(row: dict[str, float]) -> bool:
    return all(math.isfinite(row[name]) for name in NAMES)


def test_all_eleven_features_arrive_and_follow_the_load(stack: LiveStack) -> None:
    """Up when the load rises, down when it falls; what the load cannot move stays as it is."""
    with stack.load("web", LOW):
        low = stack.await_row(
            "web",
            "all features under little load",
            lambda row: complete(row) and 3 < row["request_rate"] < 12,
        )
    print("low", low)
    with stack.load("web", HIGH):
        high = stack.await_row(
            "web",
            "the features of an overload",
            lambda row: (
                row["request_rate"] > 70
                and row["cpu_utilization"] > 0.8
                and row["response_time_p95"] > 0.2
                and row["error_rate"] > 0.05
                and row["queue_depth"] > 8
            ),
        )
    print("high", high)
    with stack.load("web", LOW):
        again = stack.await_row(
            "web",
            "the features of little load again",
            lambda row: (
                row["request_rate"] < 12
                and row["cpu_utilization"] < 0.4
                and row["response_time_p95"] < 0.2
                and row["error_rate"] == 0
                and row["queue_depth"] < 8
            ),
        )
    print("again", again)
