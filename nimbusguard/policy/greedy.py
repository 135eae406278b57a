"""The action with the highest Q-value among those that the bounds allow."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES, ScaleAction, allowed_actions

# Equal Q-values go to the smallest change, then to the addition.
_PREFERENCE: Final = np.array(
    sorted(ScaleAction, key=lambda action: (abs(action.change), -action.change)), dtype=np.int64
)


class Choice(NamedTuple):
    """Chosen actions and why."""

    action: NDArray[np.int64]
    """Action index (B,)."""
    target: NDArray[np.int64]
    """Replicas after the action (B,)."""
    allowed: NDArray[np.bool_]
    """Mask (B, A)."""
    margin: NDArray[np.float64]
    """Q-value of the choice minus that of the next best allowed action (B,); 0 without one."""


def choose_allowed(q_values: NDArray[np.float32], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The best action (B,) of Q-values (B, A) under a mask (B, A), ties as in `choose`."""
    masked = np.where(allowed, q_values, -np.inf)  # (B, A)
    action: NDArray[np.int64] = _PREFERENCE[np.argmax(masked[:, _PREFERENCE], axis=1)]
    return action


def choose(
    q_values: NDArray[np.float32],
    current: NDArray[np.int64],
    minimum: NDArray[np.int64],
    maximum: NDArray[np.int64],
) -> Choice:
    """Choose one action a row; a masked action is never chosen.

    Args:
        q_values: Finite Q-values (B, A).
        current: Replicas now (B,).
        minimum: Lower bounds (B,).
        maximum: Upper bounds (B,).

    Returns:
        The choice of each row.
    """
    allowed = allowed_actions(current, minimum, maximum)  # (B, A)
    action = choose_allowed(q_values, allowed)  # (B,)
    masked = np.where(allowed, q_values, -np.inf)  # (B, A)
    best_two = np.partition(masked, masked.shape[1] - 2, axis=1)[:, -2:].astype(
        np.float64
    )  # (B, 2)
    lone = np.isneginf(best_two[:, 0])
    margin = np.where(lone, 0.0, best_two[:, 1] - np.where(lone, 0.0, best_two[:, 0]))
    return Choice(action, current + CHANGES[action], allowed, margin)
