"""How much traffic comes when: real traces and generated shapes, as load over time.

Load is dimensionless: 1 is the level that the objective's busy pods stand for. A lane multiplies it
by its scale (busy pods) and divides it by its service time to get requests per second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PEAK_PERCENTILE: Final = 99.9
"""The percentile of the rate that is called load 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """Load over time, linear between the centres of its bins and flat before and after."""

    name: str
    group: str
    """What it is reported with, for example `wc98`."""
    step_s: float
    """Width of a bin."""
    load: NDArray[np.float64]
    """Mean load of each bin (T,)."""
    peak_rate: float = 1.0
    """Requests/s of the source at load 1: the recorded factor between trace and load."""

    @property
    def duration_s(self) -> float:
        """Seconds from the first bin's start to the last one's end."""
        return self.step_s * len(self.load)

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Load at each time since the start."""
        centres = (np.arange(len(self.load)) + 0.5) * self.step_s
        return np.interp(time_s, centres, self.load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One run of a lane: which traffic, how much of it, and the seed of everything random."""

    workload: Workload
    seed: int
    scale: float
    """Busy pods at load 1."""
    start_s: int = 0
    """Where in the workload the episode begins."""
    decisions: int | None = None
    """Length in decisions; None means to the workload's end."""
    initial_replicas: int | None = None
    """Pods that are ready at the start; None means 1.4 times those busy then."""

    def length(self, interval_s: int) -> int:
        """Whole decision intervals, at least one."""
        if self.decisions is not None:
            return self.decisions
        return max(int((self.workload.duration_s - self.start_s) // interval_s), 1)


def scaled_to_peak(name: str, group: str, step_s: float, counts: NDArray[np.float64]) -> Workload:
    """A workload whose 99.9th percentile is load 1.

    Args:
        name: Its name.
        group: What it is reported with.
        step_s: Width of a bin, seconds.
        counts: Requests in each bin (T,); not all may be 0.
    """
    peak = max(float(np.percentile(counts, PEAK_PERCENTILE)), 1e-9)
    return Workload(
        name=name, group=group, step_s=step_s, load=counts / peak, peak_rate=peak / step_s
    )
