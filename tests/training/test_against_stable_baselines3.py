"""The learner beside an independent implementation, on a task whose answer is known."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.small_tasks import Corridor
from training.dqn import Learner, learn
from training.replay_buffer import ReplayBuffer
from training.settings import TrainingSettings

CELLS, GAMMA = 6, 0.9
STRIDES = np.ceil(np.arange(CELLS, 0, -1) / 2)
KNOWN = -(1.0 - GAMMA**STRIDES) / (1.0 - GAMMA)
"""The best return from each cell."""


class OneCorridor(gymnasium.Env[NDArray[np.float32], np.int64]):
    """One lane of the corridor, with strides that would leave on the left cut short."""

    metadata: ClassVar[dict[str, Any]] = {}
    action_space = gymnasium.spaces.Discrete(5)
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (CELLS,), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(CELLS))
        return np.eye(CELLS, dtype=np.float32)[self.place], {}

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.place = max(self.place + int(action) - 2, 0)
        done = self.place >= CELLS
        state = np.eye(CELLS, dtype=np.float32)[min(self.place, CELLS - 1)]
        return state, -1.0, done, False, {}


def ours() -> NDArray[np.float32]:
    settings = TrainingSettings(
        epochs=30,
        steps_per_epoch=40,
        lanes=16,
        hidden=(32, 32),
        derived_inputs=False,
        learning_rate=2e-3,
        batch_size=64,
        replay_steps=200,
        n_step=1,
        discount=GAMMA,
        epsilon=1.0,
        target_rate=0.02,
        reward_scale=1.0,
        multiplier_spread=1.0,
        warm_start_epochs=0,
    )
    settings = dataclasses.replace(settings, double=False, dueling=False)
    torch.manual_seed(0)
    learner = Learner(settings, CELLS, 5)
    buffer = ReplayBuffer(settings.replay_steps, 16, state_dim=CELLS, action_dim=5)
    list(learn(learner, Corridor(16, CELLS), buffer, seed=0))
    return learner.q_values(np.eye(CELLS, dtype=np.float32), np.ones(CELLS))


def theirs() -> NDArray[np.float32]:
    with warnings.catch_warnings():
        # Its optional imports warn about packages that are none of our business.
        warnings.simplefilter("ignore")
        from stable_baselines3 import DQN
    model = DQN(
        "MlpPolicy",
        OneCorridor(),
        learning_rate=2e-3,
        buffer_size=5_000,
        learning_starts=200,
        batch_size=64,
        gamma=GAMMA,
        train_freq=4,
        gradient_steps=1,
        target_update_interval=100,
        exploration_fraction=1.0,
        exploration_final_eps=0.5,
        policy_kwargs={"net_arch": [32, 32]},
        seed=0,
        device="cpu",
    )
    model.learn(8_000)
    with torch.inference_mode():
        values: NDArray[np.float32] = model.q_net(torch.eye(CELLS)).numpy()
    return values


@pytest.mark.slow
def test_both_learners_find_the_known_values() -> None:
    """Ours, as plain DQN, and stable-baselines3's agree with the answer and with each other."""
    our_values, their_values = ours().max(axis=1), theirs().max(axis=1)

    assert our_values == pytest.approx(KNOWN, abs=0.15)
    assert their_values == pytest.approx(KNOWN, abs=0.15)
    assert our_values == pytest.approx(their_values, abs=0.25)
