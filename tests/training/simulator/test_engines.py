"""Facts that hold for both engines, and how far they agree."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.simulator.worlds import fixed, lanes_with, steady_episode
from training.baselines.hpa import CpuHpa
from training.baselines.kpa import KnativePodAutoscaler
from training.baselines.staffing import SquareRootStaffing, StaticReplicas
from training.objective import DEFAULT_OBJECTIVE, Objective
from training.simulator.events import EventQueue, shared_queue, sharing_pods
from training.simulator.fluid import FluidQueue
from training.simulator.generators import generate
from training.simulator.interface import Policy
from training.simulator.lanes import ClusterLanes
from training.simulator.metrics import Series
from training.simulator.rollout import rollout
from training.simulator.service import ServiceModel
from training.simulator.workload import Episode

Engine = Callable[[int, float], ServiceModel]
ENGINES: list[Engine] = [
    FluidQueue,
    partial(EventQueue, discipline=sharing_pods),
    partial(EventQueue, discipline=shared_queue),
]
NAMES = ["fluid", "sharing", "shared"]


@pytest.mark.parametrize("engine", ENGINES, ids=NAMES)
@given(busy=st.floats(0.2, 6.0), pods=st.integers(1, 6), retry=st.sampled_from([0.0, 0.5]))
@settings(max_examples=8, deadline=None)
def test_every_attempt_is_answered_failed_or_in_flight(
    engine: Engine, busy: float, pods: int, retry: float
) -> None:
    """Flow is conserved, in overload and below it, with and without repetitions."""
    world = fixed(
        retry_ratio=retry, wasted_ratio=1.0, timeout_s=2.0, retry_delay_s=1.0, backlog_per_pod=50.0
    )
    lanes = lanes_with([steady_episode(busy, pods)], world, service=engine)
    came = 0.0

    for _ in range(12):
        came += lanes.step(np.array([pods])).arrivals[0]

    done, failed, waiting = (
        float(lanes.totals[row, 0]) for row in (Series.COMPLETED, Series.FAILED, Series.IN_FLIGHT)
    )
    repeated = retry * failed - lanes.waiting_retries[0]
    in_and_out = came + repeated - done - failed
    # The gauge of the fast engine is read at a moment, its flow is a mean: about one pod's worth.
    assert in_and_out == pytest.approx(waiting, abs=0.02 * came + 3.0 * np.sqrt(pods) + pods + 3)


def _started_late(engine: Engine) -> list[float]:
    """In flight after 30, 45 s when 16 pods are ready at 30 s, and traffic keeps 8 busy."""
    world = fixed(
        startup_s=30.0,
        startup_cv=0.0,
        warm_s=0.0,
        pod_speed_cv=0.0,
        timeout_s=600.0,
        backlog_per_pod=1e6,
        memory_per_request_ratio=1e-9,
    )
    lanes = lanes_with([steady_episode(8.0, 1)], world, service=engine)
    in_flight = []
    for _ in range(3):
        lanes.step(np.array([16]))
        in_flight.append(float(lanes.totals[Series.IN_FLIGHT, 0]))
    return in_flight[1:]


@pytest.mark.parametrize("engine", [ENGINES[0], ENGINES[2]], ids=["fluid", "shared"])
def test_a_backlog_builds_during_start_up_and_drains_at_the_surplus(engine: Engine) -> None:
    """While one pod serves eight pods' traffic, seven pods' worth of it waits each second."""
    rate = 20.0

    after_start_up, later = _started_late(engine)

    assert after_start_up == pytest.approx((8.0 - 1.0) * rate * 30.0, rel=0.05)
    assert after_start_up - later == pytest.approx((16.0 - 8.0) * rate * 15.0, rel=0.1)


def test_a_backlog_stays_with_the_pod_that_took_it() -> None:
    """Requests that a sharing pod has accepted cannot move to the pods that come later."""
    after_start_up, later = _started_late(ENGINES[1])

    assert after_start_up > (8.0 - 1.0) * 20.0 * 30.0
    assert later > 0.8 * after_start_up


@pytest.mark.parametrize("engine", ENGINES, ids=NAMES)
def test_littles_law_holds_in_a_lane(engine: Engine) -> None:
    """Mean in flight of an uncongested service is its rate times its service time."""
    lanes = lanes_with([steady_episode(4.0, 16)], service=engine)
    seen = []
    came = 0.0

    for _ in range(40):
        came += lanes.step(np.array([16])).arrivals[0]
        seen.append(lanes.totals[Series.IN_FLIGHT, 0])

    assert np.mean(seen) == pytest.approx(came / 600.0 * 0.05, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("discipline", "sharing"), [(sharing_pods, 1.0), (shared_queue, 0.0)])
def test_static_pods_violate_alike_in_both_engines(
    discipline: Callable[[float, float, float], object], sharing: float
) -> None:
    """Near the objective the engines' shares of slow requests are 0.03 in utilization apart.

    At each number of pods, the event engine's share lies between the fast one's at a utilization
    0.03 lower and 0.03 higher (0.06 for one and two pods).
    """
    cases = {1.0: [(1, 0.27), (2, 0.48), (4, 0.67), (8, 0.82), (16, 0.90)]}
    cases[0.0] = [(1, 0.48), (2, 0.68), (4, 0.82), (8, 0.90), (16, 0.95)]
    world = fixed(sharing_ratio=sharing, pod_speed_cv=0.0)

    def share(engine: Engine, shift: int, minutes: int) -> list[float]:
        episodes = [
            steady_episode(pods * (used + shift * (0.06 if pods < 3 else 0.03)), pods)
            for pods, used in cases[sharing]
        ]
        lanes = lanes_with(episodes, world, service=engine)
        pods = np.array([number for number, _ in cases[sharing]])
        steps = [lanes.step(pods) for _ in range(4 * minutes)]
        slow = sum(step.violations for step in steps)
        return list(slow / sum(step.arrivals for step in steps))

    exact = share(partial(EventQueue, discipline=discipline), 0, 30)

    for low, middle, high in zip(
        share(FluidQueue, -1, 300), exact, share(FluidQueue, 1, 300), strict=True
    ):
        assert low < middle < high


def _policies(objective: Objective) -> list[Policy]:
    square = partial(SquareRootStaffing, service_time_s=objective.service_time_s)
    return [
        CpuHpa(0.5),
        CpuHpa(0.65),
        CpuHpa(0.8),
        square(0.5),
        square(1.5, window_intervals=20),
        square(3.0, window_intervals=20),
        KnativePodAutoscaler(0.6),
        StaticReplicas(8),
        StaticReplicas(14),
    ]


def kendall_tau(first: list[float], second: list[float]) -> float:
    """Concordant minus discordant pairs over all pairs."""
    pairs = list(combinations(range(len(first)), 2))
    signs = [np.sign(first[i] - first[j]) * np.sign(second[i] - second[j]) for i, j in pairs]
    return float(np.sum(signs)) / len(pairs)


@pytest.mark.slow
def test_both_engines_rank_policies_alike() -> None:
    """Kendall's tau of cost, pod time plus weighted violations, and of violations: at least 0.8."""
    objective = DEFAULT_OBJECTIVE
    rng = np.random.default_rng(20)
    shapes = ("steps", "flash_crowd", "ramps", "diurnal")
    episodes = [
        Episode(workload=generate(shape, 1200.0, rng), seed=seed, scale=6.0, decisions=80)
        for seed, shape in enumerate(shapes)
    ]
    scores: dict[str, list[list[float]]] = {}

    for name, engine in zip(NAMES[:2], ENGINES[:2], strict=True):
        sharing = fixed(sharing_ratio=1.0)
        lanes = ClusterLanes(sharing, objective, len(episodes), service=engine)
        played = [rollout(lanes, policy, episodes) for policy in _policies(objective)]
        scores[name] = [
            [float((run.pod_seconds + 5.0 * run.violations).sum()) for run in played],
            [run.violation_ratio for run in played],
        ]

    for fast, exact in zip(scores["fluid"], scores["sharing"], strict=True):
        assert kendall_tau(fast, exact) >= 0.8
