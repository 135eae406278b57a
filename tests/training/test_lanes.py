"""The simulator as the learner sees it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nimbusguard.contract.actions import ACTION_DIM, ScaleAction
from nimbusguard.contract.features import INDEX, STATE_DIM
from nimbusguard.contract.normalization import denormalize
from training.branching import leaders
from training.lanes import ClusterEnvironment, LaneSettings, bounds_of, mask_of, see
from training.objective import DEFAULT_OBJECTIVE
from training.simulator.sampler import EpisodeSampler
from training.simulator.workload import Workload

STEADY = Workload(name="steady", group="made", step_s=60.0, load=np.full(120, 0.5))
HOLD = int(ScaleAction.NO_ACTION)


def environment(lanes: int = 10, *, group: int = 1, guarded: float = 0.5) -> ClusterEnvironment:
    return ClusterEnvironment(
        [STEADY],
        DEFAULT_OBJECTIVE,
        lanes=lanes,
        measuring=lanes // 2,
        decisions=40,
        settings=dataclasses.replace(LaneSettings(), guarded_ratio=guarded),
        group=group,
    )


def test_a_row_that_the_service_would_refuse_may_only_hold() -> None:
    """Without CPU nothing can be decided; the other row may do what its bounds allow."""
    raw = np.full((2, STATE_DIM), 0.5)
    raw[0, INDEX["cpu_utilization"]] = np.nan

    state, refused = see(raw)
    mask = mask_of(np.array([5, 5]), bounds_of(DEFAULT_OBJECTIVE, 2), refused)

    assert refused.tolist() == [True, False]
    assert np.flatnonzero(mask[0]).tolist() == [HOLD]
    assert mask[1].all()
    assert np.isfinite(state).all()


def test_equal_seeds_give_equal_lanes_whatever_came_before() -> None:
    """A reset depends on its seed alone: that is what makes a resumed run exact."""
    one, other = environment(), environment()
    other.reset((9, 9))
    other.step(np.full(10, HOLD))

    first, second = one.reset((1, 2)), other.reset((1, 2))

    assert np.array_equal(first.state, second.state)
    left, right = one.step(np.full(10, HOLD)), other.step(np.full(10, HOLD))
    assert np.array_equal(left.after.state, right.after.state)
    assert np.array_equal(left.cost, right.cost)


def test_cost_is_pods_beyond_those_that_the_arriving_requests_keep_busy() -> None:
    """Holding, a lane pays for its pods; the work that came is subtracted, whoever did it."""
    lanes = environment(guarded=0.0)
    lanes.reset((0, 0))
    pods = lanes._clusters.current_replicas
    service_s = lanes._clusters.parameters["service_time_s"]

    step = lanes.step(np.full(10, HOLD))

    busy = step.requests * service_s / DEFAULT_OBJECTIVE.interval_s
    assert step.cost == pytest.approx(pods - busy, rel=1e-4)
    assert step.violation == pytest.approx(
        step.violating * service_s / DEFAULT_OBJECTIVE.interval_s, rel=1e-4
    )


def test_only_guarded_lanes_are_held_by_the_guard() -> None:
    """Right after a start the guard lets nothing be removed; raw lanes come down."""
    lanes = environment(10, guarded=0.5)
    lanes.reset((0, 0))
    before = lanes._clusters.current_replicas

    lanes.step(np.full(10, int(ScaleAction.SCALE_DOWN_1)))

    came_down = lanes._clusters.current_replicas < before
    assert np.array_equal(came_down, ~lanes._guarded)
    assert 0 < lanes._guarded.sum() < 10


def test_lanes_that_measure_are_guarded_unless_none_is() -> None:
    """The budget is for what will run; half of the ten measure."""
    assert environment(guarded=0.2)._guarded[:5].all()
    assert environment(guarded=0.2)._guarded.sum() == 6
    assert not environment(guarded=0.0)._guarded.any()


def test_scarce_lanes_begin_with_too_few_pods() -> None:
    """With all exploring lanes scarce they begin saturated; the measuring ones do not."""
    settings = dataclasses.replace(
        LaneSettings(), generated_ratio=0.0, idle_ratio=0.0, scarce_ratio=1.0
    )
    lanes = ClusterEnvironment(
        [STEADY], DEFAULT_OBJECTIVE, lanes=20, measuring=10, decisions=40, settings=settings
    )
    lanes.reset((0, 0))
    pods = lanes._clusters.current_replicas
    busy = lanes._pods(lanes.step(np.full(20, HOLD)).requests)

    assert (pods[10:] < 0.8 * busy[10:]).all()
    assert (pods[:10] > busy[:10]).all()


def test_lanes_of_a_group_are_one_until_they_act_differently_and_again_when_they_follow() -> None:
    """Five actions, five fates; after following one of them all five go on alike."""
    lanes = environment(20, group=ACTION_DIM)
    observed = lanes.reset((3, 4))
    groups = observed.state.reshape(4, ACTION_DIM, STATE_DIM)
    assert (groups == groups[:, :1]).all()
    spread = np.tile(np.arange(ACTION_DIM), 4)
    for _ in range(4):
        observed = lanes.step(spread).after
        spread = np.full(20, HOLD)
    groups = observed.state.reshape(4, ACTION_DIM, STATE_DIM)
    assert not (groups == groups[:, :1]).all()

    lanes.follow(leaders(np.full(4, int(ScaleAction.SCALE_UP_2))))

    for _ in range(20):
        step = lanes.step(np.full(20, HOLD))
        groups = step.after.state.reshape(4, ACTION_DIM, STATE_DIM)
        costs = step.cost.reshape(4, ACTION_DIM)
        assert (groups == groups[:, :1]).all()
        assert (costs == costs[:, :1]).all()


def test_measuring_lanes_are_the_cluster_that_the_objective_names() -> None:
    """The first half is nominal, at the objective's scale; the other half is drawn."""
    lanes = environment(10)
    lanes.reset((0, 0))

    service_s = lanes._clusters.parameters["service_time_s"]

    assert (service_s[:5] == DEFAULT_OBJECTIVE.service_time_s).all()
    assert len(set(service_s[5:].tolist())) == 5


def test_an_idle_lane_shows_no_request_and_is_decided_all_the_same() -> None:
    """Absent latency is no flaw there, nodes are of any utilization, and each pod is spare."""
    settings = dataclasses.replace(
        LaneSettings(),
        generated_ratio=0.0,
        idle_ratio=1.0,
        idle_busy_pods=(0.0, 0.0),
        idle_crowding_decisions=np.inf,
    )
    lanes = ClusterEnvironment(
        [STEADY], DEFAULT_OBJECTIVE, lanes=60, measuring=0, decisions=40, settings=settings
    )
    lanes.reset((5, 6))
    for _ in range(5):
        lanes.step(np.full(60, HOLD))
    pods = lanes._clusters.current_replicas

    step = lanes.step(np.full(60, HOLD))

    raw = denormalize(step.after.state)
    assert (step.requests == 0).all()
    assert step.cost == pytest.approx(pods, rel=1e-4)
    assert (raw[:, INDEX["request_rate"]] == 0).all()
    assert (raw[:, INDEX["cpu_utilization"]] < 0.06).all()
    assert (step.after.mask.sum(axis=1) > 1).mean() > 0.9
    assert raw[:, INDEX["node_utilization"]].min() < 0.2
    assert raw[:, INDEX["node_utilization"]].max() > 0.8
    assert set(pods.tolist()) <= set(range(1, 13))


def test_idle_lanes_are_given_pods_now_and_then_and_groups_alike() -> None:
    """Whoever always removes has one pod, and two to eight after one decision in twenty."""
    settings = dataclasses.replace(
        LaneSettings(), generated_ratio=0.0, idle_ratio=1.0, guarded_ratio=0.0
    )
    lanes = ClusterEnvironment(
        [STEADY],
        DEFAULT_OBJECTIVE,
        lanes=400,
        measuring=200,
        decisions=40,
        settings=settings,
        group=ACTION_DIM,
    )
    lanes.reset((5, 6))
    before, given = lanes._clusters.current_replicas, []
    for _ in range(40):
        lanes.step(np.where(before > 1, int(ScaleAction.SCALE_DOWN_1), HOLD))
        after = lanes._clusters.current_replicas
        given.append(np.where(after != np.maximum(before - 1, 1), after, 0))
        before = after
    pods = np.array(given)  # (40, 400)
    groups = pods.reshape(40, 80, ACTION_DIM)

    assert not pods[:, :200].any(), "lanes that measure are left alone"
    assert (groups == groups[:, :, :1]).all()
    assert (pods[:, 200:] > 0).mean() == pytest.approx(0.05, abs=0.015)
    assert set(pods[pods > 0].tolist()) == set(range(2, 9))


def test_one_in_ten_exploring_lanes_is_nearly_idle() -> None:
    """Its traffic keeps at most half a pod busy at load 1; half of them have none."""
    lanes = environment(2000)
    rng = np.random.default_rng(7)
    made = EpisodeSampler([], DEFAULT_OBJECTIVE, decisions=40, rng=rng)

    scales = np.array([lanes._explore(made, rng).scale for _ in range(2000)])

    assert np.mean(scales <= 0.5) == pytest.approx(LaneSettings().idle_ratio, abs=0.02)
    assert np.mean(scales == 0.0) == pytest.approx(LaneSettings().idle_ratio / 2, abs=0.02)
