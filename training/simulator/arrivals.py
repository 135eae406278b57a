"""Requests per second of every lane, drawn ahead in blocks from each lane's own generator.

A lane's arrivals depend on its episode alone, not on its policy nor on the lanes beside it: common
random numbers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.simulator.workload import Episode

BLOCK_S: Final = 1800
"""Seconds drawn at a time."""


_NORMAL_FROM: Final = 30.0
"""From this mean on the skew-corrected normal is as good as the Poisson distribution."""


def poisson(rng: np.random.Generator, mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """Poisson counts of each mean (T,).

    Large means are drawn from the normal distribution with the Poisson's skew and rounded to whole
    numbers (Cornish and Fisher, 1937), which takes a third of the time.
    """
    small = mean < _NORMAL_FROM
    if small.all():
        return rng.poisson(mean).astype(np.float32)
    level = mean.astype(np.float32)
    z = rng.standard_normal(len(mean), dtype=np.float32)
    skew = (z * z - np.float32(1.0)) * np.float32(1.0 / 6.0)
    counts = np.rint(level + np.sqrt(level) * z + skew)
    if small.any():
        counts[small] = rng.poisson(mean[small])
    return counts


def arrivals_of(episode: Episode, service_time_s: float, interval_s: int) -> NDArray[np.float32]:
    """All requests of an episode, as its lane will see them, (T, interval_s) by second."""
    steps = episode.length(interval_s)
    source = Arrivals(1)
    source.reset(0, episode, service_time_s, 0)
    seconds = [source.at(now)[0] for now in range(steps * interval_s)]
    return np.array(seconds, dtype=np.float32).reshape(steps, interval_s)


class Arrivals:
    """Poisson counts of N lanes."""

    def __init__(self, lanes: int) -> None:
        self._counts = np.zeros((BLOCK_S, lanes), dtype=np.float32)
        self._episode: list[Episode | None] = [None] * lanes
        self._service_s = np.ones(lanes)
        self._generator = [np.random.Generator(np.random.SFC64(0)) for _ in range(lanes)]
        self._drawn_s = np.zeros(lanes, dtype=np.int64)
        self._drawn_to = np.zeros(lanes, dtype=np.int64)

    def reset(self, lane: int, episode: Episode, service_time_s: float, now: int) -> None:
        """Start a lane's episode and draw it up to the end of the block."""
        self._episode[lane] = episode
        self._service_s[lane] = service_time_s
        self._generator[lane] = np.random.Generator(np.random.SFC64([episode.seed, 1]))
        self._drawn_s[lane] = 0
        self._draw(lane, now)

    def at(self, now: int) -> NDArray[np.float32]:
        """Requests in the second that begins at `now` (N,)."""
        if now % BLOCK_S == 0:
            for lane, episode in enumerate(self._episode):
                # A lane that was reset this very second has its block already.
                if episode is not None and self._drawn_to[lane] == now:
                    self._draw(lane, now)
        row: NDArray[np.float32] = self._counts[now % BLOCK_S]
        return row

    def _draw(self, lane: int, now: int) -> None:
        episode = self._episode[lane]
        if episode is None:
            return
        begin = now % BLOCK_S
        count = BLOCK_S - begin
        since = self._drawn_s[lane]
        time_s = episode.start_s + since + np.arange(count) + 0.5
        rate = episode.workload.at(time_s) * (episode.scale / self._service_s[lane])
        self._counts[begin:, lane] = poisson(self._generator[lane], rate)
        self._drawn_s[lane] += count
        self._drawn_to[lane] = now + count
