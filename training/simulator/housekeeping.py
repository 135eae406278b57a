"""When the kubelet reads its containers' CPU counters: not when it is asked.

cAdvisor reads each container every 10 to 20 s (`--housekeeping-interval` 10 s, lengthened by up to
its own length at random) and answers every question in between from memory. Both who scrape it, the
metrics server for the HPA and Prometheus for the recorded series, find counters that old.

Source: google/cadvisor, manager/container.go, `jitter`; described in kubernetes/kubernetes#55863,
and by a maintainer in google/cadvisor#2496.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.simulator.draws import Purpose, uniform

INTERVAL_S: Final = 15.0
"""Mean time between two readings of one container."""
_JITTER_S: Final = 7.0
"""A reading comes within so many seconds, around its place in a regular series: two neighbours are
then 8 to 22 s apart, with the variance of 10 to 20 s drawn uniformly."""
_PAST: Final = 64.0
"""Readings before the episode that may be asked for."""
CONTAINERS: Final = 3
"""Containers whose readings stand for those of all pods; each has its own times."""


def reading_times(
    seed: NDArray[np.uint64], container: int, reading: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Lane time of readings, in seconds (N,).

    Args:
        seed: Of each lane (N,).
        container: Which one, from 0 to `CONTAINERS`.
        reading: Its number (N,), whole; those before the episode are negative.
    """
    phase = uniform(seed, container, Purpose.HOUSEKEEPING) * INTERVAL_S
    number = (reading + _PAST).astype(np.uint64) * np.uint64(CONTAINERS) + np.uint64(container)
    late = uniform(seed, number + np.uint64(CONTAINERS), Purpose.HOUSEKEEPING) - 0.5
    times: NDArray[np.float64] = reading * INTERVAL_S + phase + late * _JITTER_S
    return times


def last_reading(
    seed: NDArray[np.uint64], container: int, by_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Number of the last reading at or before a lane time (N,)."""
    phase = uniform(seed, container, Purpose.HOUSEKEEPING) * INTERVAL_S
    latest = np.floor((by_s - phase + _JITTER_S / 2) / INTERVAL_S)
    return latest - (reading_times(seed, container, latest) > by_s)
