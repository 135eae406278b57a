"""Branching: all five actions from one state, under common random numbers.

What one pod more or less is worth is small beside what traffic does in the meantime. So the lanes
stand in groups of five that play one episode. At a branch each lane of a group takes another
action; then all follow the policy for some steps, through the same arrivals, scrapes and chance.
Their five n-step returns differ by the action alone. After that the group goes on from one of them.

Source: the "vine" estimator of Schulman et al. 2015, "Trust Region Policy Optimization", section
5.2, which also uses common random numbers; here its returns are n-step targets of Q-learning.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM, ScaleAction
from training.environment import Environment, Observation

Arrays = dict[str, NDArray[np.generic]]


class BranchingEnvironment(Environment, Protocol):
    """Lanes in groups of A that play one episode, and can be put into each other's state."""

    def follow(self, leader: NDArray[np.int64]) -> Observation:
        """Put every lane into the state of its leader (L,), of the same group."""
        ...


class Branches(NamedTuple):
    """What followed from each action in G groups."""

    state: NDArray[np.float32]
    """Where they branched (G, F)."""
    mask: NDArray[np.bool_]
    """Actions allowed there (G, A)."""
    cost: NDArray[np.float32]
    """Discounted sum over the steps (G, A)."""
    violation: NDArray[np.float32]
    """Discounted sum over the steps (G, A)."""
    last_state: NDArray[np.float32]
    """Where each lane arrived (G, A, F)."""
    last_mask: NDArray[np.bool_]
    """(G, A, A)"""
    multiplier: NDArray[np.float64]
    """Price of violations that the policy followed (G,)."""


_FIELDS: Final = Branches._fields


class BranchBuffer:
    """The latest branches of all groups."""

    def __init__(self, branches: int, groups: int, *, state_dim: int) -> None:
        """Allocate a ring of `branches` times `groups`."""
        grid = (branches, groups)
        each = (*grid, ACTION_DIM)
        self._data = Branches(
            state=np.zeros((*grid, state_dim), dtype=np.float32),
            mask=np.zeros(each, dtype=np.bool_),
            cost=np.zeros(each, dtype=np.float32),
            violation=np.zeros(each, dtype=np.float32),
            last_state=np.zeros((*each, state_dim), dtype=np.float32),
            last_mask=np.zeros((*each, ACTION_DIM), dtype=np.bool_),
            multiplier=np.zeros(grid, dtype=np.float64),
        )
        self._size = branches
        self._groups = groups
        self._written = 0

    def __len__(self) -> int:
        """States held."""
        return min(self._written, self._size) * self._groups

    def add(self, branches: Branches) -> None:
        """Write one branch of every group over the oldest."""
        place = self._written % self._size
        for column, values in zip(_columns(self._data), _columns(branches), strict=True):
            column[place] = values
        self._written += 1

    def sample(self, size: int, rng: np.random.Generator) -> Branches:
        """Draw states uniformly, each with all its actions."""
        row = rng.integers(min(self._written, self._size), size=size)
        group = rng.integers(self._groups, size=size)
        data = self._data
        return Branches(
            state=data.state[row, group],
            mask=data.mask[row, group],
            cost=data.cost[row, group],
            violation=data.violation[row, group],
            last_state=data.last_state[row, group],
            last_mask=data.last_mask[row, group],
            multiplier=data.multiplier[row, group],
        )

    def arrays(self) -> Arrays:
        """Everything held, for a checkpoint."""
        held = min(self._written, self._size)
        content: Arrays = {
            name: column[:held] for name, column in zip(_FIELDS, _columns(self._data), strict=True)
        }
        content["written"] = np.array(self._written)
        return content

    def restore(self, arrays: Arrays) -> None:
        """Take back what `arrays` gave."""
        self._written = int(np.asarray(arrays["written"], dtype=np.int64))
        held = min(self._written, self._size)
        for name in _FIELDS:
            column: NDArray[Any] = getattr(self._data, name)
            column[:held] = arrays[name]


class Act(Protocol):
    """The policy that is followed."""

    def __call__(self, observed: Observation) -> NDArray[np.int64]:
        """The action of every lane (L,)."""
        ...


class Branched(NamedTuple):
    """One branch of every group."""

    branches: Branches
    greedy: NDArray[np.int64]
    """The action that the policy itself took at the branch (G,)."""
    cost: NDArray[np.float64]
    """Undiscounted cost of the lanes that followed the policy throughout, a step (G,)."""
    violating: NDArray[np.float64]
    """Requests that violated there (G,)."""
    requests: NDArray[np.float64]
    """All requests there (G,)."""


def branch(
    environment: BranchingEnvironment,
    observed: Observation,
    act: Act,
    multiplier: NDArray[np.float64],
    *,
    steps: int,
    discount: float,
) -> Branched:
    """Try every action in every group, and follow the policy for the rest of `steps`.

    Args:
        environment: Lanes whose groups are in one state each.
        observed: That state, of all lanes.
        act: The policy.
        multiplier: Price of violations of each group (G,), which the policy already knows.
        steps: Steps summed, the branch included.
        discount: Gamma, per step.
    """
    groups = len(multiplier)
    state = observed.state.reshape(groups, ACTION_DIM, -1)[:, 0]
    mask = observed.mask.reshape(groups, ACTION_DIM, ACTION_DIM)[:, 0]
    greedy = act(observed).reshape(groups, ACTION_DIM)[:, 0]
    own = np.tile(np.arange(ACTION_DIM), (groups, 1))
    # The lane of a masked action holds; its return is never used.
    action = np.where(mask, own, int(ScaleAction.NO_ACTION)).ravel()
    sums = np.zeros((5, groups * ACTION_DIM))
    factor = 1.0
    for _ in range(steps):
        step = environment.step(action)
        sums[0] += factor * step.cost
        sums[1] += factor * step.violation
        sums[2] += step.cost
        sums[3] += step.violating
        sums[4] += step.requests
        factor *= discount
        observed = step.after
        action = act(observed)
    cost, violation, plain, violating, requests = sums.reshape(5, groups, ACTION_DIM)
    own_lane = np.arange(groups), greedy
    return Branched(
        Branches(
            state=state,
            mask=mask,
            cost=cost.astype(np.float32),
            violation=violation.astype(np.float32),
            last_state=observed.state.reshape(groups, ACTION_DIM, -1),
            last_mask=observed.mask.reshape(groups, ACTION_DIM, ACTION_DIM),
            multiplier=multiplier,
        ),
        greedy,
        plain[own_lane] / steps,
        violating[own_lane],
        requests[own_lane],
    )


def leaders(action: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each lane (L,) the lane of its group that took the group's chosen action (G,)."""
    first = np.arange(len(action)) * ACTION_DIM
    return np.repeat(first + action, ACTION_DIM)


def _columns(data: Branches) -> tuple[NDArray[Any], ...]:
    """The arrays of all fields; said so, as the checker joins their types to `object`."""
    return tuple(data)
