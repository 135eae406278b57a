"""The life of pods: pending, starting, warming, ready, killed, removed."""

from __future__ import annotations

import numpy as np
import pytest

from training.objective import DEFAULT_OBJECTIVE
from training.simulator.pods import Pods, pick_ready
from training.simulator.settings import SimulatorSettings

SEED = np.array([7], dtype=np.uint64)
LANE = np.array([0])


def pods_with(replicas: int, **values: float) -> tuple[Pods, dict[str, np.ndarray]]:
    drawn = SimulatorSettings().nominal(DEFAULT_OBJECTIVE).draw(SEED, DEFAULT_OBJECTIVE)
    drawn |= {"startup_cv": np.array([0.0]), "pod_speed_cv": np.array([0.0])}
    drawn |= {name: np.array([value]) for name, value in values.items()}
    pods = Pods(1, 20)
    pods.reset(LANE, np.array([replicas]), SEED, drawn, 0)
    return pods, drawn


def scale(pods: Pods, drawn: dict[str, np.ndarray], target: int, now: int) -> int:
    removed = pods.scale(LANE, np.array([target]), SEED, drawn, now=now, age_s=np.array([now]))
    return int(removed[0])


def test_pods_of_a_new_lane_are_ready_and_warm() -> None:
    """An episode begins in the middle of a service's life."""
    pods, _ = pods_with(3)

    assert pods.ready_count(0).tolist() == [3]
    assert pods.total_speed(0)[0] == pytest.approx(3.0)


def test_a_new_pod_is_ready_after_its_start_up_and_fast_after_warming() -> None:
    """Start-up 12 s, then 5 s at nine tenths of the speed."""
    pods, drawn = pods_with(1, warm_speed_ratio=0.9)
    scale(pods, drawn, 2, now=100)

    assert pods.ready_count(111).tolist() == [1]
    assert pods.ready_count(112).tolist() == [2]
    assert pods.total_speed(112)[0] == pytest.approx(1.9)
    assert pods.total_speed(117)[0] == pytest.approx(2.0)


def test_transitions_say_the_same_as_looking_every_second() -> None:
    """Added speeds and pods within an interval sum up to the state at each second."""
    pods, drawn = pods_with(2, startup_s=8.0)
    scale(pods, drawn, 6, now=50)

    change = pods.transitions(50, 15)

    for second in range(15):
        speed = pods.total_speed(50)[0] + change.speed[: second + 1, 0].sum()
        ready = pods.ready_count(50)[0] + change.ready[: second + 1, 0].sum()
        assert speed == pytest.approx(pods.total_speed(50 + second)[0])
        assert ready == pods.ready_count(50 + second)[0]


def test_the_youngest_pods_are_removed_first() -> None:
    """What has not started yet goes before what serves."""
    pods, drawn = pods_with(3)
    scale(pods, drawn, 6, now=10)

    removed = scale(pods, drawn, 3, now=11)

    assert removed == 3
    assert pods.ready_count(11).tolist() == [3]
    assert pods.count.tolist() == [3]


def test_pods_without_room_on_the_nodes_stay_pending() -> None:
    """With room for four, six pods are asked for and four are ever ready."""
    pods, drawn = pods_with(2, schedulable_pods=4.0)
    scale(pods, drawn, 6, now=0)

    assert pods.count.tolist() == [6]
    assert pods.ready_count(10_000).tolist() == [4]


def test_a_killed_pod_restarts_after_a_back_off_that_doubles() -> None:
    """10 s, then 20 s, and never more than 300 s, each followed by a start-up."""
    pods, _ = pods_with(1)
    waits = []
    now = 0
    for _ in range(8):
        pods.kill(LANE, np.array([0]), np.array([10.0]), np.array([12.0]), now)
        waits.append(int(pods.ready_at[0, 0]) - now - 12)
        now = int(pods.ready_at[0, 0])

    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_victim_is_one_of_the_ready_pods() -> None:
    """Whatever the chance, a pod that is not ready is not picked."""
    ready = np.array([[False, True, False, True, True]])

    picked = {int(pick_ready(ready, SEED, np.array([now]))[0]) for now in range(200)}

    assert picked == {1, 3, 4}


def test_start_up_times_and_speeds_spread_between_pods() -> None:
    """Pods of one workload are not copies of each other, but their means are right."""
    pods, drawn = pods_with(1, startup_cv=0.2, pod_speed_cv=0.1, startup_s=60.0)
    scale(pods, drawn, 20, now=0)

    assert np.std(pods.ready_at[0, 1:]) == pytest.approx(12.0, rel=0.5)
    assert np.mean(pods.ready_at[0, 1:]) == pytest.approx(60.0, rel=0.15)
    assert np.std(pods.speed[0, 1:]) == pytest.approx(0.1, rel=0.5)


def test_exposure_counts_live_pods_by_what_they_did_in_the_window() -> None:
    """Two pods served all 60 s; one was ready for 30 s after a start of 12 s; one is too new."""
    pods, drawn = pods_with(2)
    scale(pods, drawn, 3, now=18)
    scale(pods, drawn, 4, now=50)

    seen = pods.exposure(np.array([0]), np.array([60]), np.array([22.5]))

    assert seen.serving_s.tolist() == [60.0 + 60.0 + 30.0]
    assert seen.starting_s.tolist() == [12.0]
    assert seen.sampled.tolist() == [3.0]
