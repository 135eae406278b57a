"""What is played: generated shapes, sampled episodes, the Gymnasium adapter, rollouts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nimbusguard.contract.actions import ScaleAction
from tests.training.simulator.worlds import constant, fixed
from training.baselines.staffing import StaticReplicas
from training.objective import DEFAULT_OBJECTIVE, Objective
from training.simulator.env import ScalingEnv, pod_time_reward
from training.simulator.generators import SHAPES, generate
from training.simulator.interface import Observation, Step
from training.simulator.lanes import ClusterLanes
from training.simulator.rollout import rollout
from training.simulator.sampler import EpisodeSampler
from training.simulator.workload import PEAK_PERCENTILE, Episode, scaled_to_peak


@pytest.mark.parametrize("shape", SHAPES)
def test_a_generated_shape_is_a_load_with_its_peak_at_one(shape: str) -> None:
    """Never negative, scaled like a trace, and made by its generator alone."""
    one = generate(shape, 3600.0, np.random.default_rng(1))
    same = generate(shape, 3600.0, np.random.default_rng(1))

    assert one.duration_s == 3600.0
    assert one.load.min() >= 0.0
    assert np.percentile(one.load, PEAK_PERCENTILE) == pytest.approx(1.0)
    assert np.array_equal(one.load, same.load)


def test_a_workload_remembers_the_factor_between_trace_and_load() -> None:
    """Requests per second of the source at load 1."""
    workload = scaled_to_peak("w", "g", 60.0, np.full(100, 120.0))

    assert workload.peak_rate == pytest.approx(2.0)
    assert np.allclose(workload.load, 1.0)


def test_sampled_episodes_vary_and_repeat_with_their_generator() -> None:
    """Windows, starts, scales, first replicas and seeds; equal generators give equal episodes."""
    windows = [constant(6.0)]
    draw = [
        EpisodeSampler(windows, DEFAULT_OBJECTIVE, decisions=120, rng=np.random.default_rng(2))
        for _ in range(2)
    ]

    first = [draw[0].draw() for _ in range(60)]
    second = [draw[1].draw() for _ in range(60)]

    assert [(e.seed, e.scale, e.start_s) for e in first] == [
        (e.seed, e.scale, e.start_s) for e in second
    ]
    assert len({e.start_s for e in first}) > 20
    assert {e.workload.group for e in first} == {"test", "generated"}
    scales = [e.scale / DEFAULT_OBJECTIVE.busy_pods for e in first]
    assert min(scales) < 0.5 < 1.0 < max(scales)
    assert all(e.length(15) == 120 for e in first)


def test_the_environment_passes_gymnasiums_checker() -> None:
    """Spaces, seeding, return types: nothing to complain about, not even a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        check_env(ScalingEnv(decisions=30), skip_render_check=True)


def test_the_environment_masks_and_ignores_actions_outside_the_bounds() -> None:
    """At the lower bound, removing a pod does nothing."""
    objective = Objective(min_replicas=3, max_replicas=3)
    env = ScalingEnv(fixed(objective), objective, decisions=5)
    _, info = env.reset(seed=1)

    _, reward, terminated, truncated, after = env.step(np.int64(ScaleAction.SCALE_DOWN_2))

    assert info["action_mask"].tolist() == [False, False, True, False, False]
    assert after["current_replicas"] == 3
    assert not terminated
    assert not truncated
    assert float(reward) <= -3 * 15.0 / 60.0


def test_an_environment_plays_a_given_episode_with_a_given_reward() -> None:
    """It ends when the episode does, and pays what the function says."""
    rewards = []

    def arrivals(step: Step) -> float:
        rewards.append(float(step.arrivals[0]))
        return rewards[-1]

    env = ScalingEnv(
        fixed(),
        episode=lambda rng: Episode(workload=constant(), seed=1, scale=3.0, decisions=4),
        reward=arrivals,
    )
    env.reset(seed=0)

    ended = [env.step(np.int64(ScaleAction.NO_ACTION)) for _ in range(4)]

    assert [step[3] for step in ended] == [False, False, False, True]
    assert [step[1] for step in ended] == rewards
    assert all(env.observation_space.contains(step[0]) for step in ended)


def test_the_default_reward_is_pod_time_and_weighted_violations() -> None:
    """By hand: 60 pod-seconds and 3 violations of 20 pod-seconds are 2 pod-minutes."""
    zero = np.zeros(1)
    step = Step(
        pod_seconds=np.array([60.0]),
        arrivals=zero,
        violations=np.array([3.0]),
        failed=zero,
        responses=zero[None, :],
        terminated=np.array([False]),
        truncated=np.array([False]),
    )

    assert pod_time_reward(step) == -2.0


class Seesaw:
    """Up, hold, down, hold, and so on."""

    name = "seesaw"

    def act(self, observation: Observation) -> np.ndarray:
        turn = observation.time_s // 15 % 4
        return observation.current_replicas + np.choose(turn, [1, 0, -1, 0])


def test_a_rollout_counts_changes_and_turns_of_each_lane_until_its_own_end() -> None:
    """Eight decisions: up, down, up, down; four changes, three of them turns."""
    episodes = [
        Episode(workload=constant(), seed=1, scale=3.0, decisions=8, initial_replicas=6),
        Episode(workload=constant(), seed=1, scale=3.0, decisions=4, initial_replicas=6),
    ]
    lanes = ClusterLanes(fixed(), DEFAULT_OBJECTIVE, 2)

    run = rollout(lanes, Seesaw(), episodes, record=True)

    assert run.decisions.tolist() == [8, 4]
    assert run.changes.tolist() == [4, 2]
    assert run.turns.tolist() == [3, 1]
    assert run.replicas[:, 0].tolist() == [7, 7, 6, 6, 7, 7, 6, 6]
    assert run.arrivals[0] == pytest.approx(run.load[:, 0].sum())


def test_a_rollout_sums_cost_and_violations() -> None:
    """Ten static pods for an hour are ten pod-hours."""
    episodes = [Episode(workload=constant(1.0), seed=1, scale=4.0, initial_replicas=10)]
    lanes = ClusterLanes(fixed(), DEFAULT_OBJECTIVE, 1)

    run = rollout(lanes, StaticReplicas(10), episodes)

    assert run.pod_hours == pytest.approx(10.0)
    assert run.violation_ratio < 1e-4
    assert run.responses.shape[0] == 1
    assert run.replicas.shape == (0, 1)
