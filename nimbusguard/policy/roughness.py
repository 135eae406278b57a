"""How rough a workload's load is: what a network without memory cannot see, and its guard can.

Roughness is the root mean square of the busy pods' relative distance from their own mean of the
last minute. A smooth service (a football site, a social network) has 0.03 to 0.08; the NASA server
of 1995, whose load jumps by a third from one minute to the next, 0.14 to 0.33. Two running means
hold it, so it follows a service that changes within the hour. Pure; numpy only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = 0.15
"""Taken for granted of a workload that has not been watched yet: as rough as the roughest known."""
_LEVEL_MEMORY_S: Final = 60.0
_ROUGHNESS_MEMORY_S: Final = 1800.0
_LARGEST: Final = 1.0
"""One doubling says no more than this, so that a single step is not taken for a rough hour."""
_LEAST_LEVEL: Final = 1.0
"""Below one busy pod a relative distance is counting noise."""


class Watched(NamedTuple):
    """What is remembered of B workloads."""

    level: NDArray[np.float64]
    """Running mean of the busy pods (B,); NaN until the first."""
    mean_square: NDArray[np.float64]
    """Running mean square of their relative distance from it (B,)."""


def watch(seen: Watched, busy: NDArray[np.float64], interval_s: float) -> Watched:
    """Take one observation in.

    Args:
        seen: What is remembered.
        busy: Pods that the load keeps busy (B,); one that is not finite changes nothing.
        interval_s: Seconds since the last observation.
    """
    known = np.isfinite(busy)
    now = np.where(known, busy, 0.0)
    level = np.where(np.isnan(seen.level), now, seen.level)
    distance = np.abs(now - level) / np.maximum(level, _LEAST_LEVEL)
    square = np.minimum(distance, _LARGEST) ** 2
    level = level + weight_of(interval_s, _LEVEL_MEMORY_S) * (now - level)
    weight = weight_of(interval_s, _ROUGHNESS_MEMORY_S)
    mean_square = seen.mean_square + weight * (square - seen.mean_square)
    return Watched(
        np.where(known, level, seen.level), np.where(known, mean_square, seen.mean_square)
    )


def weight_of(interval_s: float, memory_s: float) -> float:
    """Weight of the newest in a running mean that forgets with a time constant."""
    return float(-np.expm1(-interval_s / memory_s))
