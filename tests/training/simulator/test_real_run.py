"""The simulator and the HPA rule against one recorded run of a real cluster.

The run lies outside the project (see its README); without it these tests are skipped.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from nimbusguard.policy.hpa import desired_replicas_batch
from tests.training.simulator.worlds import fixed
from training.objective import Objective
from training.simulator.events import EventQueue
from training.simulator.interface import Observation
from training.simulator.lanes import ClusterLanes
from training.simulator.metrics import Series
from training.simulator.settings import TraceSettings
from training.simulator.stations import SharingPods, any_pod
from training.simulator.workload import Episode, Workload

RUN = TraceSettings.from_environ().folder.parent / "data" / "real_cluster_1min.csv"
pytestmark = pytest.mark.skipif(not RUN.is_file(), reason="the recorded run is not at hand")

MINUTE = 60.0
LIMIT_CORES = 0.5
UNLOADED_S = 43.0
"""Duration of a request that has a pod to itself: the run's quiet minutes."""
COST_CORE_S = 19.0
"""CPU of one request: the README's 18 to 20."""
IDLE_CORES = 0.0108
"""A pod without requests: the run's last minutes."""


class Run(NamedTuple):
    """The recorded minutes, those in which the host slept left out."""

    replicas: NDArray[np.int64]
    cores: NDArray[np.float64]
    done: NDArray[np.float64]
    duration_s: NDArray[np.float64]


def rows() -> list[dict[str, str]]:
    with Path(RUN).open(newline="") as lines:
        return list(csv.DictReader(lines))


def column(name: str, records: list[dict[str, str]]) -> NDArray[np.float64]:
    return np.array([float(row[name]) if row[name] else np.nan for row in records])


def recorded() -> Run:
    awake = [row for row in rows() if row["frozen_host"] == "0"]
    return Run(
        column("ready", awake).astype(np.int64),
        column("cpu_cores_sum", awake),
        np.nan_to_num(column("proc_done_inc", awake)),
        column("proc_mean_s", awake),
    )


def arrivals_of(run: Run) -> NDArray[np.float64]:
    """Requests that came in each minute: those that ended later, their duration earlier."""
    came = np.zeros(len(run.done))
    for minute, (count, duration_s) in enumerate(zip(run.done, run.duration_s, strict=True)):
        if count:
            came[max(round(minute - duration_s / MINUTE), 0)] += count
    return came


def test_the_rule_reproduces_the_recorded_wishes_of_the_hpa() -> None:
    """Of 44 recorded wishes at least 43: CPU 75 % and memory 80 %, then at most one pod a step."""
    records = [row for row in rows() if row["hpa_cpu_util"]]
    current = column("hpa_cur", records).astype(np.int64)
    by_cpu = desired_replicas_batch(current, column("hpa_cpu_util", records) / 75.0)
    by_memory = desired_replicas_batch(current, column("hpa_memory_util", records) / 80.0)

    wished = np.maximum(np.clip(np.maximum(by_cpu, by_memory), current - 1, current + 1), 1)

    assert len(records) == 44
    assert np.count_nonzero(wished == column("hpa_des", records)) >= 43


class Replay:
    """The recorded replicas, minute by minute."""

    name = "replay"

    def __init__(self, replicas: NDArray[np.int64]) -> None:
        self._replicas = replicas

    def act(self, observation: Observation) -> NDArray[np.int64]:
        minute = np.minimum(observation.time_s // 60, len(self._replicas) - 1)
        return self._replicas[minute]


@pytest.mark.slow
def test_driven_with_the_recorded_replicas_it_matches_cpu_completions_and_durations() -> None:
    """CPU, completions and mean duration within 15 %, in the mean of 40 runs.

    Arrivals are inferred from the completions; a request's cost and its duration in an idle pod
    from the run's quiet minutes. What is predicted is how far requests share pods, which the
    balancer picks by chance there (kube-proxy), and what that does to their duration.
    """
    run = recorded()
    came = arrivals_of(run)
    objective = Objective(service_time_s=UNLOADED_S, startup_s=12.0, min_replicas=1)
    world = fixed(
        objective,
        service_cv=0.05,
        cpu_share_ratio=COST_CORE_S / (UNLOADED_S * LIMIT_CORES),
        idle_cpu_ratio=IDLE_CORES / LIMIT_CORES,
        startup_cpu_ratio=0.0,
        timeout_s=3600.0,
        memory_per_request_ratio=1e-6,
    )
    router = any_pod(np.random.default_rng(1))
    station = lambda timeout_s, limit, _: SharingPods(timeout_s, limit, router=router)  # noqa: E731
    lanes = ClusterLanes(world, objective, 40, service=partial(EventQueue, discipline=station))
    quiet = np.zeros(10)
    workload = Workload(
        name="run", group="run", step_s=MINUTE, load=np.concatenate([came, quiet]) / MINUTE
    )
    episodes = [
        Episode(workload=workload, seed=seed, scale=UNLOADED_S, initial_replicas=1)
        for seed in range(40)
    ]
    lanes.reset(np.arange(40), episodes)
    policy = Replay(np.concatenate([run.replicas, np.full(10, run.replicas[-1])]))
    cores = 0.0
    in_flight = 0.0
    for second in range(0, int(workload.duration_s), objective.interval_s):
        before = lanes.totals[Series.CPU]
        lanes.step(policy.act(lanes.observation()))
        used = (lanes.totals[Series.CPU] - before) * lanes.ready_replicas
        cores += used.sum() * LIMIT_CORES * (second < MINUTE * len(came))
        in_flight += lanes.totals[Series.IN_FLIGHT].sum() * objective.interval_s
    completed = lanes.totals[Series.COMPLETED].sum()

    durations = run.duration_s[run.done > 0]
    recorded_duration_s = np.average(durations, weights=run.done[run.done > 0])

    assert cores / 40 == pytest.approx(np.nansum(run.cores) * MINUTE, rel=0.15)
    assert completed / 40 == pytest.approx(run.done.sum(), rel=0.15)
    assert in_flight / completed == pytest.approx(recorded_duration_s, rel=0.15)
