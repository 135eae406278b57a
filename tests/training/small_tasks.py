"""Small tasks with known answers, as environments of the learner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES
from training.environment import LaneStep, Observation


class IdentityTask:
    """Name the state: action i is right in one-hot state i; each step is an episode of its own."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.size = 5

    def reset(self, seed: Sequence[int]) -> Observation:
        self._rng = np.random.default_rng(tuple(seed))
        self._observed = self._draw()
        return self._observed

    def _draw(self) -> Observation:
        self._hot = self._rng.integers(self.size, size=self.lanes)
        state = np.eye(self.size, dtype=np.float32)[self._hot]
        return Observation(state, np.ones((self.lanes, self.size), dtype=np.bool_))

    def step(self, action: NDArray[np.int64]) -> LaneStep:
        wrong = action != self._hot
        after = self._observed
        self._observed = self._draw()
        return LaneStep(
            after=after,
            following=self._observed,
            cost=wrong.astype(np.float32),
            violation=np.zeros(self.lanes, dtype=np.float32),
            violating=np.zeros(self.lanes),
            requests=np.ones(self.lanes),
            terminated=np.ones(self.lanes, dtype=np.bool_),
            truncated=np.zeros(self.lanes, dtype=np.bool_),
        )


class Corridor:
    """Walk out of the right end of a corridor of `size` cells; each step costs one.

    The five actions move by -2 to +2; those that would leave on the left are masked. From a cell
    the best return is minus the discounted count of the strides of two that are left.
    """

    def __init__(self, lanes: int, size: int) -> None:
        self.lanes = lanes
        self.size = size

    def reset(self, seed: Sequence[int]) -> Observation:
        self._rng = np.random.default_rng(tuple(seed))
        self._place = self._rng.integers(self.size, size=self.lanes)
        return self._observe(self._place)

    def _observe(self, place: NDArray[np.int64]) -> Observation:
        inside = np.minimum(place, self.size - 1)
        mask = inside[:, None] + CHANGES >= 0
        return Observation(np.eye(self.size, dtype=np.float32)[inside], mask)

    def step(self, action: NDArray[np.int64]) -> LaneStep:
        reached = self._place + CHANGES[action]
        done = reached >= self.size
        after = self._observe(reached)
        fresh = self._rng.integers(self.size, size=self.lanes)
        self._place = np.where(done, fresh, reached)
        return LaneStep(
            after=after,
            following=self._observe(self._place),
            cost=np.ones(self.lanes, dtype=np.float32),
            violation=np.zeros(self.lanes, dtype=np.float32),
            violating=np.zeros(self.lanes),
            requests=np.ones(self.lanes),
            terminated=done,
            truncated=np.zeros(self.lanes, dtype=np.bool_),
        )


class Newsvendor:
    """One choice with a budget: of five actions, the dearer the one, the fewer violations.

    The state says nothing. With a budget of 2 % the multiplier must rise until action 1 is
    preferred to action 0, at (2 - 1) / (0.10 - 0.02) = 12.5, and stay below the price of action 2,
    at (4 - 2) / (0.02 - 0.00) = 100.
    """

    COST = np.array([1.0, 2.0, 4.0, 8.0, 16.0], dtype=np.float32)
    VIOLATION = np.array([0.10, 0.02, 0.0, 0.0, 0.0], dtype=np.float32)

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes

    def reset(self, seed: Sequence[int]) -> Observation:
        return self._observe()

    def _observe(self) -> Observation:
        state = np.ones((self.lanes, 1), dtype=np.float32)
        return Observation(state, np.ones((self.lanes, 5), dtype=np.bool_))

    def step(self, action: NDArray[np.int64]) -> LaneStep:
        violation = self.VIOLATION[action]
        return LaneStep(
            after=self._observe(),
            following=self._observe(),
            cost=self.COST[action],
            violation=violation,
            violating=violation.astype(np.float64),
            requests=np.ones(self.lanes),
            terminated=np.ones(self.lanes, dtype=np.bool_),
            truncated=np.zeros(self.lanes, dtype=np.bool_),
        )
