"""Lanes: independent, repeatable, bounded, and with consequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nimbusguard.contract.errors import InvalidRequest
from tests.training.simulator.worlds import constant, fixed, lanes_with, steady_episode
from training.objective import DEFAULT_OBJECTIVE, Objective
from training.simulator.events import EventQueue
from training.simulator.generators import SHAPES, generate
from training.simulator.interface import Step
from training.simulator.lanes import ClusterLanes
from training.simulator.metrics import Series
from training.simulator.settings import SimulatorSettings
from training.simulator.workload import Episode


def wander(lanes: ClusterLanes, steps: int, seed: int) -> list[Step]:
    """The same random walk of replicas for every lane."""
    rng = np.random.default_rng(seed)
    walk = 10 + np.cumsum(rng.integers(-2, 3, steps))
    return [lanes.step(np.full(lanes.lanes, target)) for target in walk]


def episodes(count: int) -> list[Episode]:
    rng = np.random.default_rng(4)
    return [
        Episode(workload=generate(shape, 1200.0, rng), seed=seed, scale=10.0, decisions=60)
        for seed, shape in zip(range(count), list(SHAPES) * count, strict=False)
    ]


@pytest.mark.parametrize("engine", ["fluid", "event"])
def test_equal_seeds_give_equal_runs(engine: str) -> None:
    """Everything random comes from the episode's seed."""
    service = {} if engine == "fluid" else {"service": EventQueue}
    first = lanes_with(episodes(3), SimulatorSettings(), **service)
    second = lanes_with(episodes(3), SimulatorSettings(), **service)

    for one, two in zip(wander(first, 25, 1), wander(second, 25, 1), strict=True):
        for left, right in zip(one, two, strict=True):
            assert np.array_equal(left, right)
    assert np.array_equal(first.observe(), second.observe(), equal_nan=True)


def test_a_lane_can_be_reset_alone() -> None:
    """The other lanes go on as if nothing had happened."""
    with_reset = lanes_with(episodes(3), SimulatorSettings())
    without = lanes_with(episodes(3), SimulatorSettings())
    wander(with_reset, 10, 1)
    wander(without, 10, 1)

    with_reset.reset(np.array([1]), [steady_episode(3.0, 4, seed=99)])

    assert with_reset.age_s.tolist() == [150, 0, 150]
    assert with_reset.current_replicas[1] == 4
    for one, two in zip(wander(with_reset, 10, 2), wander(without, 10, 2), strict=True):
        assert one.violations[[0, 2]].tolist() == two.violations[[0, 2]].tolist()


def test_as_many_episodes_as_lanes_are_needed() -> None:
    """A reset says what does not fit."""
    lanes = lanes_with(episodes(2))

    with pytest.raises(InvalidRequest, match="expected 1 episodes"):
        lanes.reset(np.array([0]), episodes(2))


def test_targets_are_clipped_to_the_objectives_bounds() -> None:
    """Whatever a policy wants, replicas stay within the bounds."""
    objective = Objective(min_replicas=2, max_replicas=20)
    lanes = lanes_with([steady_episode(4.0, 6)] * 2, objective=objective)

    lanes.step(np.array([-5, 1000]))

    assert lanes.current_replicas.tolist() == [2, 20]


def test_every_pod_is_paid_for_from_creation_to_its_end() -> None:
    """Pods that start count at once; removed ones until they have drained."""
    lanes = lanes_with([steady_episode(4.0, 6)], fixed(termination_s=10.0))

    up = lanes.step(np.array([8])).pod_seconds[0]
    down = lanes.step(np.array([5])).pod_seconds[0]

    assert up == 8 * 15.0
    assert down == 5 * 15.0 + 3 * 10.0


def test_an_episode_is_truncated_at_its_end_and_never_terminated() -> None:
    """A service has no end; an episode has."""
    lanes = lanes_with([Episode(workload=constant(), seed=1, scale=2.0, decisions=3)])

    ended = [lanes.step(np.array([5])) for _ in range(4)]

    assert [bool(step.truncated[0]) for step in ended] == [False, False, True, True]
    assert not any(step.terminated.any() for step in ended)


def test_an_episode_without_a_length_lasts_as_long_as_its_workload() -> None:
    """Whole intervals only."""
    episode = Episode(workload=constant(1.0), seed=1, scale=2.0, start_s=100)

    assert episode.length(15) == (3600 - 100) // 15


def test_more_pods_never_violate_more() -> None:
    """On the same arrivals violations fall with every pod, from all requests to none."""
    counts = np.arange(1, 21)
    lanes = lanes_with([steady_episode(8.0, int(count), seed=3) for count in counts])

    slow = sum(lanes.step(counts).violations for _ in range(20))
    ratio = slow / (8.0 * 20.0 * 300.0)

    assert np.all(np.diff(ratio) <= 1e-3)
    assert ratio[0] > 0.95
    assert ratio[-1] < 1e-4


def test_violations_never_exceed_arrivals() -> None:
    """Also not in a collapse with repetitions."""
    lanes = lanes_with(episodes(30), SimulatorSettings())

    for step in wander(lanes, 60, 3):
        assert np.all(step.violations <= step.arrivals * (1.0 + 1e-6))
        assert np.all(step.violations >= 0.0)


def test_overload_makes_clients_give_up_and_come_again() -> None:
    """With repetitions an overloaded service gets more requests than clients make."""
    world = fixed(timeout_s=1.0, retry_ratio=0.8, retry_delay_s=1.0)
    patient = fixed(timeout_s=1.0, retry_ratio=0.0)
    once = lanes_with([steady_episode(8.0, 4)], patient)
    again = lanes_with([steady_episode(8.0, 4)], world)

    failed_once = sum(once.step(np.array([4])).failed[0] for _ in range(20))
    failed_again = sum(again.step(np.array([4])).failed[0] for _ in range(20))

    assert failed_once > 0.0
    assert failed_again > 1.5 * failed_once


def test_pods_out_of_memory_are_killed_and_come_back() -> None:
    """A queue of 300 in a pod that has memory for 100 kills pods one after another."""
    world = fixed(
        memory_base_ratio=0.5, memory_per_request_ratio=0.005, backlog_per_pod=300.0, timeout_s=60.0
    )
    lanes = lanes_with([steady_episode(8.0, 4)], world)
    ready = []

    for _ in range(12):
        lanes.step(np.array([4]))
        ready.append(int(lanes.ready_replicas[0]))

    assert min(ready) < 4
    assert lanes.current_replicas[0] == 4
    assert lanes.observe()[0, 1] <= 1.0


@pytest.mark.parametrize("startup_s", [5.0, 40.0])
def test_the_drawn_parameters_are_felt(startup_s: float) -> None:
    """Readiness comes after the lane's own start-up time."""
    lanes = lanes_with([steady_episode(2.0, 2)], fixed(startup_s=startup_s, startup_cv=0.0))
    ready_after = []

    for interval in range(1, 5):
        lanes.step(np.array([6]))
        if lanes.ready_replicas[0] == 6:
            ready_after.append(15.0 * interval)

    assert ready_after[0] == pytest.approx(np.ceil(startup_s / 15.0) * 15.0)


def test_another_objective_is_another_world() -> None:
    """Service time and start-up of the nominal cluster are the objective's."""
    objective = replace(DEFAULT_OBJECTIVE, service_time_s=0.1, latency_s=0.5)

    lanes = lanes_with([steady_episode(4.0, 8)], objective=objective)
    came = lanes.step(np.array([8])).arrivals[0]

    assert came / 15.0 == pytest.approx(4.0 * 10.0, rel=0.2)


def test_true_totals_are_copies() -> None:
    """Looking cannot change the world."""
    lanes = lanes_with([steady_episode(4.0, 8)])
    lanes.step(np.array([8]))

    lanes.totals[Series.COMPLETED] = -1.0

    assert lanes.totals[Series.COMPLETED, 0] > 0.0


def test_lanes_can_be_put_into_the_state_of_another() -> None:
    """Followers of one episode go on as their leader would: all futures from one state."""
    episode = episodes(1)[0]
    lanes = lanes_with([episode] * 3, SimulatorSettings())
    for step in range(20):
        lanes.step(np.array([10, 4 + step % 3, 30]))

    lanes.follow(np.array([1, 1, 1]))
    later = [lanes.step(np.array([6, 6, 6])) for _ in range(6)]

    assert np.array_equal(lanes.observe()[0], lanes.observe()[2], equal_nan=True)
    for step in later:
        assert len(set(step.violations.tolist())) == 1
        assert len(set(step.pod_seconds.tolist())) == 1


def test_single_requests_cannot_be_copied_between_lanes() -> None:
    """The event engine refuses to branch."""
    lanes = lanes_with(episodes(2), service=EventQueue)

    with pytest.raises(InvalidRequest, match="fast engine"):
        lanes.follow(np.array([0, 0]))
