"""Which episode a training lane plays next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from training.objective import Objective
from training.simulator.generators import SHAPES, generate
from training.simulator.workload import Episode, Workload

_GENERATED_RATIO: Final = 0.3
"""Share of the episodes with generated traffic, where traces are given too."""
_SCALE: Final = (0.25, 1.5)
"""Episode scale over the objective's busy pods, drawn logarithmically."""


class EpisodeSampler:
    """Draws episodes from traces and generators, with one generator and so one order."""

    def __init__(
        self,
        workloads: Sequence[Workload],
        objective: Objective,
        *,
        decisions: int,
        rng: np.random.Generator,
    ) -> None:
        """Draw from workloads that may be learnt from.

        Args:
            workloads: Training windows; empty means generated traffic alone.
            objective: Its busy pods set the scale.
            decisions: Length of an episode.
            rng: The only source of chance.
        """
        self._workloads = list(workloads)
        self._objective = objective
        self._decisions = decisions
        self._rng = rng

    def draw(self) -> Episode:
        """One episode: a window, where to begin in it, how much traffic, how many pods at first."""
        rng = self._rng
        duration_s = self._decisions * self._objective.interval_s
        if not self._workloads or rng.random() < _GENERATED_RATIO:
            shape = list(SHAPES)[int(rng.integers(len(SHAPES)))]
            workload = generate(shape, duration_s, rng)
        else:
            workload = self._workloads[int(rng.integers(len(self._workloads)))]
        latest = max(int(workload.duration_s - duration_s), 0)
        start_s = int(rng.integers(latest + 1))
        scale = self._objective.busy_pods * float(np.exp(rng.uniform(*np.log(_SCALE))))
        busy = scale * float(workload.at(np.array([start_s + 0.5]))[0])
        replicas = int(np.ceil(busy * rng.uniform(0.8, 2.5))) + int(rng.integers(3))
        return Episode(
            workload=workload,
            seed=int(rng.integers(2**63)),
            scale=scale,
            start_s=start_s,
            decisions=self._decisions,
            initial_replicas=replicas,
        )
