"""The memory of the learner: a ring of steps over all lanes, and n-step samples from it.

Cost and violations are kept apart, so that a sample can be priced with the multiplier of the
moment instead of the one it was collected under.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Transitions(NamedTuple):
    """One step of every lane."""

    state: NDArray[np.float32]
    """(L, F) before the action."""
    mask: NDArray[np.bool_]
    """Actions allowed in `state`, (L, A)."""
    action: NDArray[np.int64]
    """(L,)"""
    cost: NDArray[np.float32]
    """Price of the step without violations, (L,)."""
    violation: NDArray[np.float32]
    """What the multiplier multiplies, (L,)."""
    next_state: NDArray[np.float32]
    """(L, F) after the action; of the episode that ended, not of the one that begins."""
    next_mask: NDArray[np.bool_]
    """Actions allowed in `next_state`, (L, A)."""
    terminated: NDArray[np.bool_]
    """The episode ended for good: nothing follows, nothing is bootstrapped. (L,)"""
    truncated: NDArray[np.bool_]
    """The episode was cut off: the value of `next_state` still counts. (L,)"""


class Batch(NamedTuple):
    """n-step samples."""

    state: NDArray[np.float32]
    """(B, F)"""
    mask: NDArray[np.bool_]
    """(B, A)"""
    action: NDArray[np.int64]
    """(B,)"""
    cost: NDArray[np.float32]
    """Discounted sum over the steps taken, (B,)."""
    violation: NDArray[np.float32]
    """Discounted sum over the steps taken, (B,)."""
    next_state: NDArray[np.float32]
    """State after the last step taken, (B, F)."""
    next_mask: NDArray[np.bool_]
    """(B, A)"""
    discount: NDArray[np.float32]
    """Discount of the value of `next_state`: gamma^steps, 0 after termination. (B,)"""


_FIELDS: Final = Transitions._fields


class ReplayBuffer:
    """A ring of `steps` time steps of `lanes` lanes."""

    def __init__(self, steps: int, lanes: int, *, state_dim: int, action_dim: int) -> None:
        """Allocate the ring; nothing in it is valid until written."""
        grid = (steps, lanes)
        self._data = Transitions(
            state=np.zeros((*grid, state_dim), dtype=np.float32),
            mask=np.zeros((*grid, action_dim), dtype=np.bool_),
            action=np.zeros(grid, dtype=np.int64),
            cost=np.zeros(grid, dtype=np.float32),
            violation=np.zeros(grid, dtype=np.float32),
            next_state=np.zeros((*grid, state_dim), dtype=np.float32),
            next_mask=np.zeros((*grid, action_dim), dtype=np.bool_),
            terminated=np.zeros(grid, dtype=np.bool_),
            truncated=np.zeros(grid, dtype=np.bool_),
        )
        self._steps = steps
        self._lanes = lanes
        self._written = 0

    def __len__(self) -> int:
        """Transitions held."""
        return min(self._written, self._steps) * self._lanes

    def add(self, transitions: Transitions) -> None:
        """Write one step of every lane over the oldest one."""
        place = self._written % self._steps
        for column, values in zip(_columns(self._data), _columns(transitions), strict=True):
            column[place] = values
        self._written += 1

    def sample(self, size: int, rng: np.random.Generator, *, n_step: int, discount: float) -> Batch:
        """Draw n-step samples uniformly.

        A sample starts at any held step with `n_step - 1` later ones; it stops early at the end of
        an episode.

        Args:
            size: Samples B.
            rng: Source of the draw.
            n_step: Steps summed, at least 1.
            discount: Gamma, per step.
        """
        held = min(self._written, self._steps)
        oldest = self._written - held
        start = oldest + rng.integers(held - n_step + 1, size=size)  # (B,)
        lane = rng.integers(self._lanes, size=size)  # (B,)
        return self._gather(start, lane, n_step=n_step, discount=discount)

    def _gather(
        self, start: NDArray[np.int64], lane: NDArray[np.int64], *, n_step: int, discount: float
    ) -> Batch:
        data = self._data
        first = start % self._steps
        cost = np.zeros(start.shape, dtype=np.float32)
        violation = np.zeros(start.shape, dtype=np.float32)
        factor = np.ones(start.shape, dtype=np.float32)  # gamma^k while the episode runs
        running = np.ones(start.shape, dtype=np.bool_)
        last = first
        for step in range(n_step):
            row = (start + step) % self._steps
            last = np.where(running, row, last)
            weight = np.where(running, factor, np.float32(0.0))
            cost += weight * data.cost[row, lane]
            violation += weight * data.violation[row, lane]
            factor = np.where(running, factor * np.float32(discount), factor)
            running &= ~(data.terminated[row, lane] | data.truncated[row, lane])
        alive = ~data.terminated[last, lane]
        return Batch(
            state=data.state[first, lane],
            mask=data.mask[first, lane],
            action=data.action[first, lane],
            cost=cost,
            violation=violation,
            next_state=data.next_state[last, lane],
            next_mask=data.next_mask[last, lane],
            discount=np.where(alive, factor, np.float32(0.0)),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything held, for a checkpoint."""
        held = min(self._written, self._steps)
        content: dict[str, NDArray[np.generic]] = {
            name: column[:held] for name, column in zip(_FIELDS, _columns(self._data), strict=True)
        }
        content["written"] = np.array(self._written)
        return content

    def restore(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Take back what `arrays` gave."""
        self._written = int(arrays["written"])
        held = min(self._written, self._steps)
        for name, column in zip(_FIELDS, _columns(self._data), strict=True):
            column[:held] = arrays[name]


def _columns(data: Transitions) -> tuple[NDArray[Any], ...]:
    """The arrays of all fields; said so, as the checker joins their types to `object`."""
    return tuple(data)
