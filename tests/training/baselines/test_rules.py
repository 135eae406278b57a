"""Knative's autoscaler, square-root staffing, static pods, and their memory."""

from __future__ import annotations

import numpy as np
import pytest

from nimbusguard.contract.features import INDEX, STATE_DIM
from training.baselines.kpa import KnativePodAutoscaler
from training.baselines.memory import StabilizationWindow
from training.baselines.staffing import SquareRootStaffing, StaticReplicas
from training.simulator.interface import Observation, PodMetrics

ONE = np.array([1])


def observation(
    *,
    current: int = 4,
    rate: float = 0.0,
    stable: float = 0.0,
    panic: float = 0.0,
    time_s: int = 0,
) -> Observation:
    raw = np.zeros((1, STATE_DIM))
    raw[0, INDEX["request_rate"]] = rate
    return Observation(
        raw=raw,
        current_replicas=np.array([current]),
        ready_replicas=np.array([current]),
        pods=PodMetrics(np.array([0.5]), ONE, ONE, ONE),
        concurrency=np.array([[stable, panic]]),
        lane=np.array([0]),
        time_s=np.array([time_s]),
    )


def test_knative_follows_mean_concurrency() -> None:
    """7 requests in flight at 0.7 in each pod are 10 pods."""
    kpa = KnativePodAutoscaler(0.7)

    assert kpa.act(observation(current=9, stable=7.0, panic=7.0)).tolist() == [10]


def test_knative_halves_at_most() -> None:
    """The default scale-down rate is 2."""
    kpa = KnativePodAutoscaler(0.7)

    assert kpa.act(observation(current=12, stable=0.1, panic=0.1)).tolist() == [6]


def test_knative_panics_at_twice_its_capacity_and_does_not_scale_down_for_a_minute() -> None:
    """A burst in the short window counts at once; the stable window's fall waits."""
    kpa = KnativePodAutoscaler(1.0)

    burst = kpa.act(observation(current=4, stable=4.0, panic=9.0, time_s=15))
    calm = [
        int(kpa.act(observation(current=9, stable=5.0, panic=5.0, time_s=15 + later))[0])
        for later in (15, 30, 45, 60, 75)
    ]

    assert burst.tolist() == [9]
    assert calm == [9, 9, 9, 9, 5]


def test_a_new_episode_ends_the_panic() -> None:
    """Panic belongs to the lane's last episode."""
    kpa = KnativePodAutoscaler(1.0)
    kpa.act(observation(current=4, panic=40.0, time_s=600))

    assert kpa.act(observation(current=4, stable=4.0, panic=4.0)).tolist() == [4]


def test_square_root_staffing_adds_the_root_of_the_load() -> None:
    """180 requests/s of 50 ms are 9 busy pods, and 1.5 x 3 more are 14."""
    rule = SquareRootStaffing(1.5, 0.05)

    assert rule.act(observation(rate=180.0)).tolist() == [14]


def test_square_root_staffing_keeps_at_least_one_pod_and_holds_without_a_metric() -> None:
    """No traffic is one pod; an absent series is no reason to change."""
    rule = SquareRootStaffing(1.5, 0.05)

    assert rule.act(observation(rate=0.0)).tolist() == [1]
    assert rule.act(observation(rate=float("nan"), current=6)).tolist() == [6]


def test_static_pods_never_change() -> None:
    """Provisioning for the peak; one number for all lanes."""
    assert StaticReplicas(20).act(observation(rate=500.0)).tolist() == [20]


def test_a_window_of_one_decision_remembers_nothing() -> None:
    """The rule acts on its wish of now."""
    window = StabilizationWindow(1)

    window.apply(np.array([9]), np.array([9]), np.array([15]))

    assert window.apply(np.array([3]), np.array([9]), np.array([30])).tolist() == [3]


@pytest.mark.parametrize("intervals", [2, 5, 20])
def test_a_window_holds_the_highest_wish_for_its_length(intervals: int) -> None:
    """A single high wish is honoured for so many decisions, then forgotten."""
    window = StabilizationWindow(intervals)
    current = np.array([3])
    window.apply(np.array([3]), current, np.array([0]))
    window.apply(np.array([8]), current, np.array([15]))

    held = [
        int(window.apply(np.array([3]), np.array([8]), np.array([30 + 15 * step]))[0])
        for step in range(intervals)
    ]

    assert held == [8] * (intervals - 1) + [3]


def test_a_window_never_scales_up_by_memory() -> None:
    """A high wish of the past that was not carried out does not come back."""
    window = StabilizationWindow(10)
    window.apply(np.array([4]), np.array([4]), np.array([0]))
    window.apply(np.array([20]), np.array([4]), np.array([15]))

    assert window.apply(np.array([4]), np.array([5]), np.array([30])).tolist() == [5]
