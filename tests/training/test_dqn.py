"""The learner: arithmetic against naive loops, and learning proven on tasks with known answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.small_tasks import Corridor, IdentityTask, Newsvendor
from training.dqn import (
    EpochRecord,
    Learner,
    explore,
    lane_multipliers,
    learn,
    margin_loss,
    soft_update,
    td_target,
)
from training.dueling_network import DuelingNetwork
from training.environment import Environment
from training.replay_buffer import ReplayBuffer
from training.settings import TrainingSettings

SMALL = TrainingSettings(
    epochs=20,
    steps_per_epoch=40,
    lanes=16,
    hidden=(32, 32),
    derived_inputs=False,
    learning_rate=2e-3,
    batch_size=64,
    replay_steps=200,
    n_step=1,
    epsilon=1.0,
    target_rate=0.02,
    reward_scale=1.0,
    multiplier_spread=1.0,
    warm_start_epochs=0,
)


def train(
    environment: Environment, state_dim: int, *, seed: int = 0, **changes: object
) -> tuple[Learner, list[EpochRecord]]:
    settings = dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    learner = Learner(settings, state_dim, 5)
    buffer = ReplayBuffer(settings.replay_steps, settings.lanes, state_dim=state_dim, action_dim=5)
    return learner, list(learn(learner, environment, buffer, seed=seed))


def test_the_identity_task_is_learnt() -> None:
    """Action i is right in state i: after 12,800 decisions none is wrong."""
    learner, _ = train(IdentityTask(16), 5)

    q_values = learner.q_values(np.eye(5, dtype=np.float32), np.ones(5))

    assert q_values.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n_step", [1, 3])
def test_the_corridor_is_walked_in_the_fewest_strides_and_its_values_are_known(n_step: int) -> None:
    """From each cell the best Q-value is minus the discounted count of strides of two left."""
    learner, _ = train(Corridor(16, 6), 6, n_step=n_step, discount=0.9, epochs=30)

    q_values = learner.q_values(np.eye(6, dtype=np.float32), np.ones(6))

    strides = np.ceil(np.arange(6, 0, -1) / 2)
    assert np.abs(q_values[:, 4] - -(1 - 0.9**strides) / 0.1).max() < 0.1


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_the_multiplier_rises_until_the_budget_is_kept_and_no_further(spread: float) -> None:
    """With a budget of 2 % the price settles between 12.5 and 100, where action 1 is best."""
    learner, records = train(
        Newsvendor(16),
        1,
        epochs=60,
        steps_per_epoch=20,
        violation_budget=0.02,
        multiplier=1.0,
        multiplier_rate=0.3,
        multiplier_spread=spread,
    )

    assert 12.5 <= learner.multiplier <= 100.0
    assert records[-1].violation_ratio == pytest.approx(0.02, abs=1e-6)


def test_a_network_told_the_multiplier_knows_the_policy_of_each_price() -> None:
    """At a price of 5 violating is cheaper, at 40 it is not."""
    learner, _ = train(
        Newsvendor(16),
        1,
        epochs=60,
        steps_per_epoch=20,
        violation_budget=0.02,
        multiplier=1.0,
        multiplier_rate=0.3,
        multiplier_spread=4.0,
    )

    q_values = learner.q_values(np.ones((2, 1), dtype=np.float32), np.array([5.0, 40.0]))

    assert q_values.argmax(axis=1).tolist() == [0, 1]


def test_samples_are_drawn_only_when_a_whole_n_step_is_held() -> None:
    """With more lanes than the batch has samples, updates still wait for n steps of each lane."""
    _, records = train(Corridor(64, 6), 6, lanes=64, n_step=8, steps_per_epoch=8, epochs=1)

    assert records[0].decisions == 64 * 8


def test_equal_seeds_give_equal_runs_and_other_seeds_do_not() -> None:
    """Every record of a run follows from its seed."""
    first = train(Corridor(16, 6), 6, epochs=4)[1]
    second = train(Corridor(16, 6), 6, epochs=4)[1]
    other = train(Corridor(16, 6), 6, epochs=4, seed=1)[1]

    assert first == second
    assert first != other


def test_the_td_target_is_that_of_a_naive_loop() -> None:
    """The target is R + discount · Q_target(s', argmax over allowed a of Q_online(s', a))."""
    rng = np.random.default_rng(0)
    reward, discount = rng.normal(size=64), rng.choice([0.0, 0.9], size=64)
    mask = rng.random((64, 5)) < 0.5
    mask[:, 2] = True
    online, target = rng.normal(size=(64, 5)), rng.normal(size=(64, 5))

    computed = td_target(*map(torch.from_numpy, (reward, discount, mask, online, target)))

    for row in range(64):
        allowed = [action for action in range(5) if mask[row, action]]
        best = max(allowed, key=lambda action: online[row, action])
        expected = reward[row] + discount[row] * target[row, best]
        assert computed[row].item() == pytest.approx(expected)


def test_the_margin_loss_is_that_of_a_naive_loop() -> None:
    """The best allowed action, others handicapped by the margin, minus the one shown."""
    rng = np.random.default_rng(1)
    q_values = rng.normal(size=(32, 5))
    mask = rng.random((32, 5)) < 0.7
    shown = rng.integers(5, size=32)
    mask[np.arange(32), shown] = True

    computed = margin_loss(
        torch.from_numpy(q_values), torch.from_numpy(mask), torch.from_numpy(shown), 0.8
    )

    excess = [
        max(q_values[row, a] + (0.8 if a != shown[row] else 0.0) for a in range(5) if mask[row, a])
        - q_values[row, shown[row]]
        for row in range(32)
    ]
    assert computed.item() == pytest.approx(float(np.mean(excess)))


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_exploration_never_takes_a_masked_action(seed: int, epsilon: float) -> None:
    """Whatever is drawn is allowed."""
    rng = np.random.default_rng(seed)
    mask = rng.random((50, 5)) < 0.4
    mask[:, 2] = True

    action = explore(np.full(50, 2), mask, np.full(50, epsilon), rng)

    assert mask[np.arange(50), action].all()


def test_exploration_takes_every_allowed_action_alike() -> None:
    """With epsilon 1 each of three allowed actions is drawn a third of the time."""
    mask = np.tile(np.array([True, False, True, False, True]), (30_000, 1))

    action = explore(np.full(30_000, 2), mask, np.ones(30_000), np.random.default_rng(0))

    assert np.bincount(action, minlength=5) / 30_000 == pytest.approx(
        [1 / 3, 0, 1 / 3, 0, 1 / 3], abs=0.01
    )


def test_the_lanes_that_measure_run_at_the_current_multiplier() -> None:
    """A quarter at the current one, the others spread around it and never above the ceiling."""
    settings = dataclasses.replace(SMALL, multiplier_spread=8.0, multiplier_ceiling=100.0)

    prices = lane_multipliers(settings, 30.0)

    assert prices[:4].tolist() == [30.0] * 4
    assert prices.min() == pytest.approx(30.0 / 8.0)
    assert prices.max() == 100.0


def test_a_soft_update_moves_the_stated_share() -> None:
    """Each weight becomes (1 - rate) of itself plus rate of the online one."""
    online, target = DuelingNetwork(hidden=(4,)), DuelingNetwork(hidden=(4,))
    expected = [
        0.9 * old + 0.1 * new
        for old, new in zip(target.parameters(), online.parameters(), strict=True)
    ]

    soft_update(target, online, 0.1)

    for moved, wanted in zip(target.parameters(), expected, strict=True):
        assert torch.allclose(moved, wanted)
