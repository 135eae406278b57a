"""The HPA as its controller runs it: replica calculator, stabilization, rate limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.features import INDEX, STATE_DIM
from tests.training.simulator.worlds import fixed, lanes_with
from training.baselines.hpa import CpuHpa, RequestRateHpa, resource_replicas
from training.simulator.interface import Observation, PodMetrics
from training.simulator.workload import Episode, Workload


def pods(cpu: float, measured: int, missing: int = 0, unready: int = 0) -> PodMetrics:
    return PodMetrics(
        cpu_utilization=np.array([cpu]),
        measured=np.array([measured]),
        missing=np.array([missing]),
        unready=np.array([unready]),
    )


def observation(
    current: int, cpu: float, time_s: int, *, rate: float = 0.0, ready: PodMetrics | None = None
) -> Observation:
    raw = np.zeros((1, STATE_DIM))
    raw[0, INDEX["request_rate"]] = rate
    return Observation(
        raw=raw,
        current_replicas=np.array([current]),
        ready_replicas=np.array([current]),
        pods=ready or pods(cpu, current),
        concurrency=np.zeros((1, 2)),
        lane=np.array([0]),
        time_s=np.array([time_s]),
    )


# Current replicas, CPU, measured, missing, unready, target; wanted. The comments do the sum.
CASES = [
    pytest.param(4, 0.70, 4, 0, 0, 0.70, 4, id="on target"),
    pytest.param(4, 0.76, 4, 0, 0, 0.70, 4, id="within the tolerance: 1.086"),
    pytest.param(4, 0.80, 4, 0, 0, 0.70, 5, id="above it: ceil(4 x 1.143)"),
    pytest.param(10, 0.35, 10, 0, 0, 0.70, 5, id="half the load, half the pods"),
    pytest.param(4, 1.00, 4, 0, 0, 0.50, 8, id="twice the load"),
    pytest.param(
        6, 1.00, 4, 0, 2, 0.50, 8, id="unready as idle: 0.66 / 0.5 = 1.32, ceil(6 x 1.32)"
    ),
    pytest.param(6, 0.60, 4, 0, 2, 0.50, 6, id="unready turn it round: 0.40 / 0.5 < 1, hold"),
    pytest.param(6, 0.20, 4, 0, 2, 0.50, 2, id="unready are ignored downwards: ceil(4 x 0.4)"),
    pytest.param(6, 0.20, 4, 2, 0, 0.50, 6, id="missing as full: 0.46 / 0.5 = 0.92, tolerated"),
    pytest.param(8, 0.10, 6, 2, 0, 0.50, 6, id="missing as full: 0.32 / 0.5, ceil(8 x 0.64)"),
    pytest.param(6, 1.00, 4, 2, 0, 0.50, 8, id="missing as idle upwards"),
    pytest.param(3, 0.90, 0, 1, 2, 0.50, 3, id="no metrics at all: nothing changes"),
    pytest.param(7, 0.709, 7, 0, 0, 0.64, 7, id="whole percent: 70 / 64 = 1.094, tolerated"),
]


@pytest.mark.parametrize(
    ("current", "cpu", "measured", "missing", "unready", "target", "wanted"), CASES
)
def test_the_calculator_follows_the_documented_cases(
    current: int,
    cpu: float,
    measured: int,
    missing: int,
    unready: int,
    target: float,
    wanted: int,
) -> None:
    """Tolerance, unready pods, missing metrics, as in `GetResourceReplicas`."""
    found = resource_replicas(
        np.array([current]), pods(cpu, measured, missing, unready), np.array([target])
    )

    assert found.tolist() == [wanted]


def naive(current: int, cpu: float, counts: tuple[int, int, int], target: float) -> int:
    """The controller's steps on one list of pods, as its source has them."""
    measured, missing, unready = counts
    metrics = [math.floor(cpu * 100 + 1e-9)] * measured
    if not metrics:
        return current
    goal = round(target * 100)
    ratio = math.floor(sum(metrics) / len(metrics) + 1e-9) / goal
    rebalance = unready > 0 and ratio > 1.0
    if not rebalance and missing == 0:
        within = abs(1.0 - ratio) <= 0.1 + 1e-9
        return current if within else math.ceil(ratio * measured - 1e-9)
    if missing and ratio < 1.0:
        metrics += [max(100, goal)] * missing
    elif missing:
        metrics += [0] * missing
    if rebalance:
        metrics += [0] * unready
    again = math.floor(sum(metrics) / len(metrics) + 1e-9) / goal
    if abs(1.0 - again) <= 0.1 + 1e-9 or (ratio < 1.0 < again) or (ratio > 1.0 > again):
        return current
    wanted = math.ceil(again * len(metrics) - 1e-9)
    if (again < 1.0 and wanted > current) or (again > 1.0 and wanted < current):
        return current
    return wanted


@given(
    cpu=st.integers(0, 150),
    counts=st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(0, 6)),
    target=st.integers(20, 95),
)
def test_the_vectorized_calculator_is_the_controllers(
    cpu: int, counts: tuple[int, int, int], target: int
) -> None:
    """Many lanes at once give what a loop over pods gives."""
    current = max(sum(counts), 1)
    found = resource_replicas(
        np.array([current]), pods(cpu / 100.0, *counts), np.array([target / 100.0])
    )

    assert found[0] == naive(current, cpu / 100.0, counts, target / 100.0)


def test_replicas_rise_by_four_or_double_in_a_step() -> None:
    """The default scale-up policies: the larger of the two."""
    for current, most in ((1, 5), (3, 7), (4, 8), (10, 20)):
        hpa = CpuHpa(0.1)

        assert hpa.act(observation(current, 1.0, 0)).tolist() == [most]


def test_replicas_fall_only_to_the_highest_wish_of_five_minutes() -> None:
    """Load halves at 0 s: nothing moves before 300 s, then all at once."""
    hpa = CpuHpa(0.5)
    hpa.act(observation(10, 0.5, 0))

    wished = [int(hpa.act(observation(10, 0.25, time_s))[0]) for time_s in range(15, 330, 15)]

    assert wished == [10] * 19 + [5, 5]


def test_a_new_episode_forgets_the_old_one() -> None:
    """At time 0 the memory is the replicas of now."""
    hpa = CpuHpa(0.5)
    hpa.act(observation(30, 0.5, 600))

    first = hpa.act(observation(4, 0.25, 0))

    assert first.tolist() == [4]
    for time_s in range(15, 300, 15):
        last = hpa.act(observation(4, 0.25, time_s))
    assert last.tolist() == [4]
    assert hpa.act(observation(4, 0.25, 300)).tolist() == [2]


def test_requests_per_second_are_shared_out() -> None:
    """130 requests/s at 12 each are 11 pods; within 10 % nothing changes; no metric, no change."""
    assert RequestRateHpa(12.0).act(observation(8, 0.0, 0, rate=130.0)).tolist() == [11]
    assert RequestRateHpa(12.0).act(observation(10, 0.0, 0, rate=125.0)).tolist() == [10]
    assert RequestRateHpa(12.0).act(observation(7, 0.0, 0, rate=float("nan"))).tolist() == [7]


def test_each_lane_may_have_its_own_target() -> None:
    """A whole sweep runs in one batch of lanes, and a lower target costs more pods."""
    load = Workload(name="l", group="l", step_s=60.0, load=np.ones(60))
    lanes = lanes_with([Episode(workload=load, seed=1, scale=8.0)] * 3, fixed())
    hpa = CpuHpa(np.array([0.4, 0.6, 0.8]))

    for _ in range(100):
        lanes.step(hpa.act(lanes.observation()))

    low, middle, high = lanes.current_replicas
    assert 18 <= low <= 23
    assert low > middle > high >= 10
