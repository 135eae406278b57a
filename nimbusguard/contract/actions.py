"""The five actions: their effect on the replica count, and which of them bounds allow."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray


class ScaleAction(IntEnum):
    """What to do with the replica count; the value is the index of its Q-value."""

    SCALE_DOWN_2 = 0
    SCALE_DOWN_1 = 1
    NO_ACTION = 2
    SCALE_UP_1 = 3
    SCALE_UP_2 = 4

    @property
    def change(self) -> int:
        """Replicas added; negative when removed."""
        return int(self) - int(ScaleAction.NO_ACTION)


ACTION_NAMES: Final[tuple[str, ...]] = tuple(action.name for action in ScaleAction)
ACTION_DIM: Final = len(ScaleAction)
CHANGES: Final = np.array([action.change for action in ScaleAction], dtype=np.int64)  # (A,)
CHANGES.setflags(write=False)
DEFAULT_MIN_REPLICAS: Final = 1
DEFAULT_MAX_REPLICAS: Final = 50


def distance_to_bounds(
    replicas: NDArray[np.int64], minimum: NDArray[np.int64], maximum: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How far replica counts lie outside their bounds; 0 inside."""
    below: NDArray[np.int64] = np.maximum(minimum - replicas, 0)
    outside: NDArray[np.int64] = np.maximum(below, replicas - maximum)
    return outside


def allowed_actions(
    current: NDArray[np.int64], minimum: NDArray[np.int64], maximum: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which actions the bounds allow.

    An action is allowed if its result lies within the bounds or nearer to them than now, so that a
    workload found outside its bounds can be led back. `NO_ACTION` is always allowed.

    Args:
        current: Replicas now, (B,).
        minimum: Lower bound, (B,), not above `maximum`.
        maximum: Upper bound, (B,).

    Returns:
        A mask (B, A).
    """
    target = current[:, None] + CHANGES  # (B, A)
    now = distance_to_bounds(current, minimum, maximum)[:, None]  # (B, 1)
    then = distance_to_bounds(target, minimum[:, None], maximum[:, None])  # (B, A)
    mask: NDArray[np.bool_] = (then == 0) | (then < now)
    mask[:, ScaleAction.NO_ACTION] = True
    return mask
