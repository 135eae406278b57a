"""Small worlds for tests: constant traffic, fixed pods, either engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from training.objective import DEFAULT_OBJECTIVE, Objective
from training.simulator.fluid import FluidQueue
from training.simulator.lanes import ClusterLanes
from training.simulator.service import ServiceModel
from training.simulator.settings import Range, SimulatorSettings
from training.simulator.workload import Episode, Workload


def constant(hours: float = 24.0) -> Workload:
    """Load 1 all the time: an episode's scale is then its number of busy pods."""
    return Workload(name="constant", group="test", step_s=60.0, load=np.ones(int(hours * 60)))


def fixed(objective: Objective = DEFAULT_OBJECTIVE, **values: float) -> SimulatorSettings:
    """The nominal cluster with some parameters set."""
    ranges: dict[str, Any] = {name: Range(value, value, value) for name, value in values.items()}
    return replace(SimulatorSettings().nominal(objective), **ranges)


def lanes_with(
    episodes: Sequence[Episode],
    settings: SimulatorSettings | None = None,
    *,
    objective: Objective = DEFAULT_OBJECTIVE,
    service: Callable[[int, float], ServiceModel] = FluidQueue,
) -> ClusterLanes:
    """One lane for each episode, begun."""
    lanes = ClusterLanes(settings or fixed(objective), objective, len(episodes), service=service)
    lanes.reset(np.arange(len(episodes)), episodes)
    return lanes


def steady_episode(busy: float, replicas: int, seed: int = 1) -> Episode:
    """Constant traffic that keeps so many pods busy, served by so many."""
    return Episode(workload=constant(), seed=seed, scale=busy, initial_replicas=replicas)
