"""How far a workload's load will have risen when a pod that is asked for now can help.

What is seen is a mean over the last minute, half a minute old, and a pod needs a quarter of a
minute to start. Where changes go on, the change of the last decisions says what comes in the next
ones; where they do not, it says nothing. Which of the two a workload is like is learnt from it: the
regression of each change over three decisions on the one before it. Pure; numpy only.

Source: a first-order autoregression of the changes, its coefficient estimated with exponential
forgetting (Ljung, "System Identification", section 11.2).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.policy.roughness import weight_of

LAG: Final = 3
"""Decisions over which a change is taken, and for which it is expected to go on: at 15 s the 45 s
that metrics and a start-up together are late. Two gave as much and turned round more often."""
WIDTH: Final = 2 * LAG + 1
"""Demands that have to be remembered for two changes in a row."""
_MEMORY_S: Final = 1800.0
_LEAST: Final = 1e-6
"""Mean square of changes below which there are none, pods squared."""


class Trend(NamedTuple):
    """What is remembered of B workloads."""

    recent: NDArray[np.float64]
    """The latest demands in busy pods, newest first (B, WIDTH); NaN before there were as many."""
    product: NDArray[np.float64]
    """Running mean of the product of two changes in a row (B,)."""
    square: NDArray[np.float64]
    """Running mean square of the earlier of the two (B,)."""


def unknown(count: int) -> Trend:
    """Of workloads that were not seen before: no change is expected to go on."""
    return Trend(np.full((count, WIDTH), np.nan), np.zeros(count), np.zeros(count))


def follow(trend: Trend, demand: NDArray[np.float64], interval_s: float) -> Trend:
    """Take one observation in.

    Args:
        trend: What is remembered.
        demand: Busy pods that the load wants (B,); one that is not finite changes nothing.
        interval_s: Seconds since the last observation.
    """
    known = np.isfinite(demand)
    moved = np.concatenate((np.where(known, demand, 0.0)[:, None], trend.recent[:, :-1]), axis=1)
    recent = np.where(known[:, None], moved, trend.recent)
    later, earlier = recent[:, 0] - recent[:, LAG], recent[:, LAG] - recent[:, 2 * LAG]
    counts = known & np.isfinite(later) & np.isfinite(earlier)
    weight = np.where(counts, weight_of(interval_s, _MEMORY_S), 0.0)
    later, earlier = np.where(counts, later, 0.0), np.where(counts, earlier, 0.0)
    return Trend(
        recent,
        trend.product + weight * (later * earlier - trend.product),
        trend.square + weight * (earlier * earlier - trend.square),
    )


def rise(trend: Trend) -> NDArray[np.float64]:
    """Busy pods (B,) by which the demand is expected to rise within LAG decisions, at least 0."""
    change = np.nan_to_num(trend.recent[:, 0] - trend.recent[:, LAG])
    share = np.clip(trend.product / np.maximum(trend.square, _LEAST), 0.0, 1.0)
    expected: NDArray[np.float64] = np.maximum(share * change, 0.0)
    return expected
