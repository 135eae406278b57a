"""What the learner needs of an environment: many lanes at once, cost and violations apart.

The cluster simulator is adapted to this in `training/lanes.py`; the small tasks with known answers
in the tests implement it directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Observation(NamedTuple):
    """What an agent may see, and do, in every lane."""

    state: NDArray[np.float32]
    """(L, F)"""
    mask: NDArray[np.bool_]
    """Allowed actions, (L, A); at least one a row."""


class LaneStep(NamedTuple):
    """What followed from one action in every lane."""

    after: Observation
    """The state that the actions led to; where an episode ended, its last one."""
    following: Observation
    """The state to act in next; where an episode ended, the first of the next one."""
    cost: NDArray[np.float32]
    """Price of the step without violations, (L,)."""
    violation: NDArray[np.float32]
    """What the multiplier multiplies, in the unit of `cost`, (L,)."""
    violating: NDArray[np.float64]
    """Requests that broke the objective, (L,)."""
    requests: NDArray[np.float64]
    """Requests finished or failed, (L,)."""
    terminated: NDArray[np.bool_]
    """(L,) The episode ended for good."""
    truncated: NDArray[np.bool_]
    """(L,) The episode was cut off."""


class Environment(Protocol):
    """Lanes that advance together."""

    @property
    def lanes(self) -> int:
        """Number of lanes L."""
        ...

    def reset(self, seed: Sequence[int]) -> Observation:
        """Begin anew in every lane; equal seeds give equal lanes."""
        ...

    def step(self, action: NDArray[np.int64]) -> LaneStep:
        """Carry out one action in every lane."""
        ...


class Rule(Protocol):
    """A policy that needs no network: what a warm start imitates."""

    def __call__(self, state: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The allowed action (B,) that the rule takes in each state (B, F)."""
        ...
