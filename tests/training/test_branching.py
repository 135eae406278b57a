"""Branching: five returns that differ by the action alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM, CHANGES
from nimbusguard.contract.features import STATE_DIM
from training.branching import BranchBuffer, Branches, branch, leaders
from training.dqn import Learner, learn_by_branching
from training.environment import LaneStep, Observation
from training.settings import TrainingSettings

CELLS, GROUPS = 6, 4


class GroupedCorridor:
    """The corridor in groups of five lanes that start in one cell; outside nothing costs."""

    def __init__(self, lanes: int, size: int) -> None:
        self.lanes = lanes
        self.size = size

    def reset(self, seed: Sequence[int]) -> Observation:
        rng = np.random.default_rng(tuple(seed))
        start = rng.integers(self.size, size=self.lanes // ACTION_DIM)
        return self.put(np.repeat(start, ACTION_DIM))

    def put(self, place: NDArray[np.int64]) -> Observation:
        self._place = np.minimum(place, self.size)
        mask = self._place[:, None] + CHANGES >= 0
        return Observation(np.eye(self.size + 1, dtype=np.float32)[self._place], mask)

    def step(self, action: NDArray[np.int64]) -> LaneStep:
        inside = self._place < self.size
        after = self.put(np.where(inside, self._place + CHANGES[action], self.size))
        nothing = np.zeros(self.lanes)
        return LaneStep(
            after=after,
            following=after,
            cost=inside.astype(np.float32),
            violation=nothing.astype(np.float32),
            violating=nothing,
            requests=nothing + 1.0,
            terminated=np.zeros(self.lanes, dtype=np.bool_),
            truncated=np.zeros(self.lanes, dtype=np.bool_),
        )

    def follow(self, leader: NDArray[np.int64]) -> Observation:
        return self.put(self._place[leader])


def stride_of_two(observed: Observation) -> NDArray[np.int64]:
    return np.full(len(observed.state), 4)


def test_each_lane_of_a_group_takes_its_own_action_and_then_follows_the_policy() -> None:
    """From cell 3 of 6, the first stride decides how many strides of two are left."""
    lanes = GroupedCorridor(ACTION_DIM, CELLS)
    observed = lanes.put(np.full(ACTION_DIM, 3))

    tried = branch(lanes, observed, stride_of_two, np.ones(1), steps=6, discount=0.9)

    strides = np.array([1 + np.ceil((CELLS - (3 + change)) / 2) for change in (-2, -1, 0, 1, 2)])
    expected = (1.0 - 0.9**strides) / 0.1
    assert tried.branches.cost[0] == pytest.approx(expected, rel=1e-5)
    assert tried.greedy.tolist() == [4]


def test_a_masked_action_is_not_tried() -> None:
    """In the first cell nobody can go left; those lanes hold, and their mask says so."""
    lanes = GroupedCorridor(ACTION_DIM, CELLS)
    observed = lanes.put(np.zeros(ACTION_DIM, dtype=np.int64))

    tried = branch(lanes, observed, stride_of_two, np.ones(1), steps=1, discount=0.9)

    assert tried.branches.mask[0].tolist() == [False, False, True, True, True]
    assert tried.branches.last_state[0, :2].argmax(axis=1).tolist() == [0, 0]


def test_a_group_goes_on_from_the_lane_that_took_the_chosen_action() -> None:
    """Action 3 in the first group and 0 in the second mean lanes 3 and 5."""
    assert leaders(np.array([3, 0])).tolist() == [3] * 5 + [5] * 5


def test_a_restored_branch_buffer_gives_equal_samples() -> None:
    """A checkpoint holds everything that a sample depends on."""
    lanes = GroupedCorridor(GROUPS * ACTION_DIM, CELLS)
    buffer, restored = (BranchBuffer(3, GROUPS, state_dim=CELLS + 1) for _ in range(2))
    observed = lanes.reset((0,))
    for _ in range(5):
        tried = branch(lanes, observed, stride_of_two, np.ones(GROUPS), steps=2, discount=0.9)
        buffer.add(tried.branches)
        observed = lanes.follow(leaders(tried.greedy))

    restored.restore(buffer.arrays())

    assert len(restored) == 3 * GROUPS
    first = buffer.sample(16, np.random.default_rng(1))
    second = restored.sample(16, np.random.default_rng(1))
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left, right)


def test_the_learner_finds_the_known_values_from_branches() -> None:
    """From each cell the best Q-value is minus the discounted count of strides of two left."""
    settings = TrainingSettings(
        epochs=30,
        steps_per_epoch=24,
        lanes=40,
        hidden=(32, 32),
        derived_inputs=False,
        learning_rate=3e-3,
        batch_size=64,
        branch_steps=4,
        updates_per_branch=10,
        level_weight=1.0,
        discount=0.9,
        reward_scale=1.0,
        target_rate=0.02,
        multiplier_spread=1.0,
        warm_start_epochs=0,
    )
    torch.manual_seed(0)
    learner = Learner(settings, CELLS + 1, ACTION_DIM)
    buffer = BranchBuffer(60, 8, state_dim=CELLS + 1)

    list(learn_by_branching(learner, GroupedCorridor(40, CELLS), buffer, seed=0))

    q_values = learner.q_values(np.eye(CELLS + 1, dtype=np.float32), np.ones(CELLS + 1))
    strides = np.ceil(np.arange(CELLS, -1, -1) / 2)
    assert q_values.max(axis=1) == pytest.approx(-(1.0 - 0.9**strides) / 0.1, abs=0.3)


def test_the_branch_loss_is_that_of_a_naive_loop() -> None:
    """Differences from the mean error in full, the mean error by its weight; masked ones not."""
    settings = dataclasses.replace(
        TrainingSettings(), multiplier_spread=1.0, reward_scale=1.0, huber_delta=1e6
    )
    torch.manual_seed(1)
    learner = Learner(settings, STATE_DIM, ACTION_DIM)
    rng = np.random.default_rng(2)
    batch_mask = rng.random((8, ACTION_DIM)) < 0.7
    batch_mask[:, 2] = True
    batch = Branches(
        state=rng.random((8, STATE_DIM)).astype(np.float32),
        mask=batch_mask,
        cost=rng.random((8, ACTION_DIM)).astype(np.float32),
        violation=rng.random((8, ACTION_DIM)).astype(np.float32),
        last_state=rng.random((8, ACTION_DIM, STATE_DIM)).astype(np.float32),
        last_mask=np.ones((8, ACTION_DIM, ACTION_DIM), dtype=np.bool_),
        multiplier=np.full(8, 3.0),
    )
    q_values = learner.q_values(batch.state, batch.multiplier)
    squares, used = 0.0, 0
    for row in range(8):
        allowed = [action for action in range(ACTION_DIM) if batch_mask[row, action]]
        errors = {}
        for action in allowed:
            last = learner.q_values(batch.last_state[row, action][None], np.ones(1))[0]
            reward = -(batch.cost[row, action] + 3.0 * batch.violation[row, action])
            target = reward + settings.discount**settings.branch_steps * last.max()
            errors[action] = q_values[row, action] - target
        level = np.mean(list(errors.values()))
        squares += sum(0.5 * (error - level) ** 2 for error in errors.values())
        used += ACTION_DIM

    losses = learner.update_branches(batch)

    assert losses.td == pytest.approx(squares / used, rel=1e-3)
