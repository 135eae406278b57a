"""A policy played on every lane until all episodes are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.simulator.interface import Policy
from training.simulator.lanes import ClusterLanes
from training.simulator.workload import Episode


class Rollout(NamedTuple):
    """Sums over each episode (N,), and its course if it was recorded."""

    pod_seconds: NDArray[np.float64]
    arrivals: NDArray[np.float64]
    violations: NDArray[np.float64]
    failed: NDArray[np.float64]
    responses: NDArray[np.float64]
    """Completed attempts at most as slow as each bucket's bound (N, BUCKETS)."""
    changes: NDArray[np.int64]
    """Decisions that changed the replica count."""
    turns: NDArray[np.int64]
    """Changes in the other direction than the last one."""
    decisions: NDArray[np.int64]
    replicas: NDArray[np.int64]
    """Replicas in each interval (T, N); (0, N) unless recorded."""
    load: NDArray[np.float64]
    """Requests that came in each interval (T, N); (0, N) unless recorded."""

    @property
    def violation_ratio(self) -> float:
        """Violating requests of all lanes over all their requests."""
        return float(self.violations.sum() / max(self.arrivals.sum(), 1.0))

    @property
    def pod_hours(self) -> float:
        """Pod-hours of all lanes."""
        return float(self.pod_seconds.sum() / 3600.0)


def rollout(
    lanes: ClusterLanes, policy: Policy, episodes: Sequence[Episode], *, record: bool = False
) -> Rollout:
    """Play one episode on every lane.

    Args:
        lanes: N lanes of either engine; they are reset.
        policy: Decides every interval.
        episodes: One for each lane; they may differ in length.
        record: Keep replicas and load of each interval.
    """
    count = lanes.lanes
    lanes.reset(np.arange(count), episodes)
    sums = np.zeros((4, count))
    responses: NDArray[np.float64] = np.zeros((count, 1))
    changes, turns, decisions = (np.zeros(count, dtype=np.int64) for _ in range(3))
    direction = np.zeros(count, dtype=np.int64)
    replicas: list[NDArray[np.int64]] = []
    load: list[NDArray[np.float64]] = []
    running = np.ones(count, dtype=np.bool_)
    while running.any():
        before = lanes.current_replicas
        step = lanes.step(policy.act(lanes.observation()))
        moved = np.sign(lanes.current_replicas - before) * running
        changes += moved != 0
        turns += (moved * direction) < 0
        direction = np.where(moved != 0, moved, direction)
        decisions += running
        sums += np.stack([step.pod_seconds, step.arrivals, step.violations, step.failed]) * running
        responses = responses + step.responses * running[:, None]
        if record:
            replicas.append(lanes.current_replicas)
            load.append(step.arrivals)
        running &= ~step.truncated
    return Rollout(
        pod_seconds=sums[0],
        arrivals=sums[1],
        violations=sums[2],
        failed=sums[3],
        responses=responses,
        changes=changes,
        turns=turns,
        decisions=decisions,
        replicas=np.array(replicas, dtype=np.int64).reshape(-1, count),
        load=np.array(load, dtype=np.float64).reshape(-1, count),
    )
