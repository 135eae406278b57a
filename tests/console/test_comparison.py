"""Was it better than the HPA: the verdict against stories told by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.console.comparison import Bounds, Comparison, compare, hpa_wish
from nimbusguard.console.decisions import Decision
from tests.console.harness import BASE, NOW_S, decided


def story(count: int = 20, **changes: object) -> list[Decision]:
    """Five minutes of the same, oldest first."""
    return [decided((count - index) * 15.0, **changes) for index in range(count)]


def judged(
    decisions: list[Decision], bounds: Bounds | None = None, *, latency_s: float | None
) -> Comparison:
    return compare(decisions, bounds or Bounds(), now_s=NOW_S, latency_s=latency_s)


def test_at_the_hpas_target_nothing_differs() -> None:
    """70 % CPU on four pods: it would hold four."""
    found = judged(story(), latency_s=0.25)

    assert found.verdict == "same"
    assert found.pod_hours == pytest.approx(found.hpa_pod_hours)
    assert found.violating_share == 0.0


def test_fewer_pods_and_a_held_objective_are_better() -> None:
    """84 % CPU on four pods: the HPA would hold five."""
    found = judged(story(cpu_utilization=0.84), latency_s=0.25)

    assert found.verdict == "better"
    assert found.reason == "20 % fewer pod-hours than the HPA, and the objective held"


def test_fewer_pods_and_a_missed_objective_are_worse() -> None:
    """A p95 above the objective: one request in twenty at least."""
    decisions = story(cpu_utilization=0.84, response_time_p95=0.4)

    found = judged(decisions, latency_s=0.25)

    assert found.verdict == "worse"
    assert found.violating_share == pytest.approx(0.05)
    assert "5.0 % of requests violated the objective" in found.reason


def test_more_pods_than_needed_are_worse() -> None:
    """35 % CPU on four pods: two would have done."""
    found = judged(story(cpu_utilization=0.35), latency_s=0.25)

    assert found.verdict == "worse"
    assert found.hpa_starved_share == 0.0


def test_more_pods_that_were_needed_are_better() -> None:
    """Pods added ahead of a rise: at the peak the HPA's would have been short of CPU."""
    calm = [decided(300.0 - 15.0 * i, current_replicas=9, cpu_utilization=0.2) for i in range(19)]
    peak = decided(15.0, current_replicas=9, cpu_utilization=0.7)

    found = judged([*calm, peak], latency_s=0.25)

    assert found.verdict == "better"
    assert found.reason.endswith(
        "more pod-hours than the HPA, which would have lacked CPU 5 % of the time"
    )


def test_what_was_not_acted_on_is_not_judged() -> None:
    """In shadow and advise nothing differs."""
    found = judged(story(mode="shadow"), latency_s=0.25)

    assert found.verdict == "unknown"
    assert "mode is shadow" in found.reason


def test_without_cpu_the_hpa_has_no_rule() -> None:
    """Then its pods are unknown too; ours are not."""
    found = judged(story(cpu_utilization=math.nan), latency_s=None)

    assert (found.verdict, found.hpa_pod_hours) == ("unknown", None)
    assert found.pod_hours > 0.0


def test_decisions_of_earlier_count_for_the_window_alone() -> None:
    """A peak four minutes before the window holds the HPA up, and costs us nothing."""
    before = decided(310.0, cpu_utilization=1.0, current_replicas=7)
    recent = story(19, cpu_utilization=0.7)

    found = judged([before, *recent], latency_s=0.25)

    assert found.decisions == 19
    assert found.hpa_pod_hours is not None
    assert found.hpa_pod_hours > found.pod_hours


def test_without_a_recent_decision_nothing_is_claimed() -> None:
    """An operator that stands still says so."""
    found = judged([decided(400.0)], latency_s=0.25)

    assert (found.verdict, found.reason) == ("unknown", "no decision in the last five minutes")


def test_a_gap_is_not_counted() -> None:
    """A decision stands for two minutes at most: nobody knows the replicas after that."""
    found = judged([decided(290.0)], latency_s=0.25)

    assert found.pod_hours == pytest.approx(4 * 120 / 3600)
    assert found.covered_s == pytest.approx(120.0)


@given(
    cpu=st.lists(st.floats(0.0, 2.0) | st.just(math.nan), min_size=1, max_size=12),
    pods=st.integers(0, 60),
)
def test_any_story_has_finite_figures(cpu: list[float], pods: int) -> None:
    """Whatever was recorded, JSON can carry the comparison."""
    decisions = [
        decided(15.0 * (len(cpu) - index), cpu_utilization=value, current_replicas=pods)
        for index, value in enumerate(cpu)
    ]

    document = judged(decisions, latency_s=0.25).document()

    numbers = [value for value in document.values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in numbers)
    assert document["verdict"] in ("better", "same", "worse", "unknown")


def test_the_wish_is_that_of_the_hpas_rule() -> None:
    """Ceiling of replicas times CPU over 0.7; nothing without a pod."""
    assert hpa_wish((1.0, *BASE.raw[1:]), 4, Bounds()) == 6
    assert hpa_wish((1.0, *BASE.raw[1:]), 4, Bounds(1, 5)) == 5
    assert hpa_wish((0.0, *BASE.raw[1:]), 4, Bounds(2, 5)) == 2
    assert hpa_wish(BASE.raw, 0, Bounds()) is None


def test_the_hpa_is_held_to_the_same_bounds() -> None:
    """At the maximum both stand still, however much CPU is wanted."""
    decisions = story(cpu_utilization=1.0, current_replicas=8)

    assert judged(decisions, Bounds(1, 8), latency_s=0.25).verdict == "same"
    assert judged(decisions, latency_s=0.25).verdict == "better"
