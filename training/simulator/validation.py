"""Figures that say how far the fast engine can be believed, and how fast it is.

`python -m training.simulator` prints them; `docs/simulator.md` shows what it printed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.objective import Objective
from training.simulator.events import EventQueue, shared_queue, sharing_pods
from training.simulator.fluid import FluidQueue
from training.simulator.lanes import ClusterLanes
from training.simulator.sampler import EpisodeSampler
from training.simulator.service import ServiceModel
from training.simulator.settings import Range, SimulatorSettings
from training.simulator.workload import Episode, Workload

_MINUTE_S: Final = 60
_DISCIPLINES: Final = {"sharing": (sharing_pods, 1.0), "shared": (shared_queue, 0.0)}
"""Name of a discipline to the event engine's maker and the fast engine's sharing ratio."""
STATIC_CASES: Final[dict[str, list[tuple[int, float]]]] = {
    "sharing": [
        *((1, 0.2), (1, 0.3), (2, 0.4), (2, 0.5), (4, 0.6), (4, 0.7)),
        *((8, 0.8), (8, 0.85), (16, 0.87), (16, 0.9), (32, 0.92), (32, 0.95)),
    ],
    "shared": [
        *((1, 0.4), (1, 0.5), (2, 0.6), (2, 0.7), (4, 0.8), (4, 0.85)),
        *((8, 0.88), (8, 0.92), (16, 0.94), (16, 0.96), (32, 0.97), (32, 0.98)),
    ],
}
"""Pods and their utilization around the point where 0.5 % of the requests are slow."""


class StaticCase(NamedTuple):
    """One number of pods at one utilization in both engines."""

    pods: int
    utilization: float
    exact: float
    """Share of slow requests in the event engine."""
    fast: float
    """The same in the fast engine."""


def throughput(
    lanes: int, decisions: int, objective: Objective, clock: Callable[[], float]
) -> float:
    """Decisions per second: observe, scale by ±2, and let 15 s pass, for randomized lanes.

    Args:
        lanes: N.
        decisions: Intervals to play; resets are not timed.
        objective: Bounds and interval.
        clock: Seconds of processor time.
    """
    rng = np.random.default_rng(0)
    world = ClusterLanes(SimulatorSettings(), objective, lanes)
    sampler = EpisodeSampler([], objective, decisions=decisions, rng=rng)
    world.reset(np.arange(lanes), [sampler.draw() for _ in range(lanes)])
    begun = clock()
    for _ in range(decisions):
        busy = np.nan_to_num(world.observe()[:, 0], nan=0.5)
        change = np.where(busy > 0.75, 2, np.where(busy < 0.5, -1, 0))
        world.step(world.current_replicas + change)
    return lanes * decisions / (clock() - begun)


def static_pods(discipline: str, objective: Objective, *, minutes: int) -> list[StaticCase]:
    """Shares of slow requests of pods that never change, in both engines.

    Args:
        discipline: `sharing` or `shared`.
        objective: Limit and service time.
        minutes: Simulated in the event engine; the fast one gets ten times as many.
    """
    maker, ratio = _DISCIPLINES[discipline]
    fixed = Range(ratio, ratio, ratio)
    settings = replace(
        SimulatorSettings().nominal(objective), sharing_ratio=fixed, pod_speed_cv=Range(0, 0, 0)
    )
    cases = STATIC_CASES[discipline]
    exact = _slow(settings, objective, cases, minutes, partial(EventQueue, discipline=maker))
    fast = _slow(settings, objective, cases, 10 * minutes, FluidQueue)
    return [
        StaticCase(pods, used, float(one), float(two))
        for (pods, used), one, two in zip(cases, exact, fast, strict=True)
    ]


def _slow(
    settings: SimulatorSettings,
    objective: Objective,
    cases: list[tuple[int, float]],
    minutes: int,
    engine: Callable[[int, float], ServiceModel],
) -> NDArray[np.float64]:
    steady = Workload(name="steady", group="validation", step_s=60.0, load=np.ones(minutes))
    lanes = ClusterLanes(settings, objective, len(cases), service=engine)
    episodes = [
        Episode(workload=steady, seed=seed, scale=pods * used, initial_replicas=pods)
        for seed, (pods, used) in enumerate(cases)
    ]
    lanes.reset(np.arange(len(cases)), episodes)
    replicas = np.array([pods for pods, _ in cases])
    slow, came = np.zeros(len(cases)), np.zeros(len(cases))
    for _ in range(minutes * _MINUTE_S // objective.interval_s):
        step = lanes.step(replicas)
        slow += step.violations
        came += step.arrivals
    return slow / came
