"""What a policy sees and does, and what a lane tells back: the seam between world and judge."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Observation(NamedTuple):
    """What can be known about N lanes when a decision is due. Never the true state."""

    raw: NDArray[np.float64]
    """The eleven features (N, F) as Prometheus shows them; NaN is an absent series."""
    current_replicas: NDArray[np.int64]
    """Replicas wanted now (N,): what the scale subresource says."""
    ready_replicas: NDArray[np.int64]
    """Pods that are ready (N,): what the status says."""
    pods: PodMetrics
    """What the Kubernetes metrics API says of each workload's pods."""
    concurrency: NDArray[np.float64]
    """Requests in flight as Knative's queue-proxies report them: mean of 60 s and of 6 s (N, 2)."""
    lane: NDArray[np.int64]
    """Lane numbers (N,), for policies that remember."""
    time_s: NDArray[np.int64]
    """Seconds since each lane's episode began (N,); 0 tells a policy to forget."""


class PodMetrics(NamedTuple):
    """The view of the HPA controller: pods counted as its replica calculator counts them."""

    cpu_utilization: NDArray[np.float64]
    """Mean CPU over the limit of the pods with usable metrics (N,); NaN without any."""
    measured: NDArray[np.int64]
    """Ready pods with usable metrics (N,)."""
    missing: NDArray[np.int64]
    """Running pods without metrics (N,)."""
    unready: NDArray[np.int64]
    """Pods pending, not ready, or measured only before they were ready (N,)."""


class Step(NamedTuple):
    """What happened in one decision interval, by lane (N,)."""

    pod_seconds: NDArray[np.float64]
    """Time paid for: every pod from its creation to its end."""
    arrivals: NDArray[np.float64]
    """Requests, without the clients' repetitions."""
    violations: NDArray[np.float64]
    """Requests slower than the objective's limit, or failed."""
    failed: NDArray[np.float64]
    """Attempts that timed out, were refused, or died with their pod."""
    responses: NDArray[np.float64]
    """Completed attempts at most as slow as each bucket's bound, (N, BUCKETS)."""
    terminated: NDArray[np.bool_]
    """Always false: a service has no end."""
    truncated: NDArray[np.bool_]
    """The episode's time is over; true until the lane is reset."""


class Policy(Protocol):
    """Anything that decides. It may remember, by `Observation.lane`."""

    name: str

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,); the loop clips them to the bounds."""
        ...
