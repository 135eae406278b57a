"""The figures that the documentation shows can be made again."""

from __future__ import annotations

from itertools import count

import pytest

from training.objective import DEFAULT_OBJECTIVE
from training.simulator.validation import STATIC_CASES, static_pods, throughput


def test_throughput_is_decisions_over_time() -> None:
    """Two readings of the clock, one second apart: lanes times decisions."""
    ticks = count()

    rate = throughput(16, 5, DEFAULT_OBJECTIVE, lambda: float(next(ticks)))

    assert rate == 16 * 5


@pytest.mark.parametrize("discipline", STATIC_CASES)
def test_static_pods_are_judged_in_both_engines(discipline: str) -> None:
    """One row for each case, shares between 0 and 1."""
    cases = static_pods(discipline, DEFAULT_OBJECTIVE, minutes=1)

    assert [(case.pods, case.utilization) for case in cases] == STATIC_CASES[discipline]
    assert all(0.0 <= share <= 1.0 for case in cases for share in (case.exact, case.fast))
