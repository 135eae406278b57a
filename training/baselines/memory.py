"""What rules remember of each lane between decisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class StabilizationWindow:
    """The highest recommendation of the last intervals: replicas come down to it, not below.

    Source: Kubernetes, Horizontal Pod Autoscaling, "Stabilization window".
    """

    def __init__(self, intervals: int) -> None:
        """Remember so many recommendations, the newest included; 1 or fewer remembers nothing."""
        self._intervals = max(intervals, 1)
        self._ring = np.zeros((self._intervals, 0), dtype=np.int64)
        self._next = 0

    def apply(
        self,
        wanted: NDArray[np.int64],
        current: NDArray[np.int64],
        time_s: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """The stabilized recommendation of every lane (N,).

        Args:
            wanted: The rule's own (N,).
            current: Replicas now (N,); the whole memory of a lane whose episode begins.
            time_s: Episode time (N,); 0 begins one.
        """
        if self._ring.shape[1] != len(wanted):
            self._ring = np.repeat(current[None, :], self._intervals, axis=0)
        begins = time_s == 0
        self._ring[:, begins] = current[begins]
        # The controller's first record is the replicas it finds, beside its first wish.
        first = begins & (self._intervals > 1)
        self._ring[self._next] = np.where(first, np.maximum(wanted, current), wanted)
        self._next = (self._next + 1) % self._intervals
        highest = self._ring.max(axis=0)
        stabilized: NDArray[np.int64] = np.maximum(wanted, np.minimum(current, highest))
        return stabilized
