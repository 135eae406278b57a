"""One lane as a Gymnasium environment; an adapter without logic of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM, CHANGES, ScaleAction, allowed_actions
from nimbusguard.contract.features import STATE_DIM
from nimbusguard.contract.normalization import impute, normalize
from training.objective import DEFAULT_OBJECTIVE, Objective
from training.simulator.interface import Step
from training.simulator.lanes import ClusterLanes
from training.simulator.sampler import EpisodeSampler
from training.simulator.settings import SimulatorSettings
from training.simulator.workload import Episode

_VIOLATION_COST = 20.0
"""Pod-seconds that one violating request weighs, unless a reward function is given."""
_NONE = np.full(STATE_DIM, 0.0, dtype=np.float32)


def pod_time_reward(step: Step) -> float:
    """Minus the pod-minutes of the interval and minus its weighted violations."""
    cost = step.pod_seconds[0] + _VIOLATION_COST * step.violations[0]
    return -float(cost) / 60.0


class ScalingEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """State (F,) in [0, 1], five actions; `info["action_mask"]` says which the bounds allow.

    A refused observation (an absent feature that may not be read as 0) repeats the last state, as
    the operator would hold; a masked action counts as NO_ACTION.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        objective: Objective = DEFAULT_OBJECTIVE,
        *,
        episode: Callable[[np.random.Generator], Episode] | None = None,
        decisions: int = 240,
        reward: Callable[[Step], float] = pod_time_reward,
    ) -> None:
        """Make the environment.

        Args:
            settings: Ranges; the training ranges if None.
            objective: Bounds, interval and limit.
            episode: Gives the next episode; generated traffic if None.
            decisions: Length of a generated episode.
            reward: Of what happened in one interval.
        """
        super().__init__()
        self.observation_space = spaces.Box(0.0, 1.0, (STATE_DIM,), np.float32)
        self.action_space = spaces.Discrete(ACTION_DIM)
        self._lanes = ClusterLanes(settings or SimulatorSettings(), objective, 1)
        self._episode = episode
        self._decisions = decisions
        self._reward = reward
        self._state = _NONE

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        self._lanes.reset(np.array([0]), [self._next_episode()])
        self._state = _NONE
        return self._look(), self._info()

    def step(
        self, action: np.int64
    ) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool, dict[str, Any]]:
        """Scale, and let one interval pass."""
        allowed = bool(self._mask()[int(action)])
        chosen = int(action) if allowed else int(ScaleAction.NO_ACTION)
        step = self._lanes.step(self._lanes.current_replicas + CHANGES[chosen])
        info = self._info() | {
            "pod_seconds": float(step.pod_seconds[0]),
            "arrivals": float(step.arrivals[0]),
            "violations": float(step.violations[0]),
        }
        return self._look(), self._reward(step), False, bool(step.truncated[0]), info

    def _next_episode(self) -> Episode:
        if self._episode is not None:
            return self._episode(self.np_random)
        sampler = EpisodeSampler(
            [], self._lanes.objective, decisions=self._decisions, rng=self.np_random
        )
        return sampler.draw()

    def _look(self) -> NDArray[np.float32]:
        imputed = impute(self._lanes.observe())
        if not imputed.refused.any():
            self._state = normalize(imputed.values).state[0]
        return self._state.copy()

    def _mask(self) -> NDArray[np.bool_]:
        objective = self._lanes.objective
        bounds = (np.array([objective.min_replicas]), np.array([objective.max_replicas]))
        mask: NDArray[np.bool_] = allowed_actions(self._lanes.current_replicas, *bounds)[0]
        return mask

    def _info(self) -> dict[str, Any]:
        return {
            "action_mask": self._mask(),
            "current_replicas": int(self._lanes.current_replicas[0]),
        }
