"""Thousands of clusters side by side: what a policy does to them and what it can see of them.

The same for both engines; only the service model differs. The clock is common, in whole seconds;
each lane counts its own age from its last reset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from training.objective import Objective
from training.simulator.arrivals import Arrivals
from training.simulator.draws import Purpose, hashed
from training.simulator.fluid import FluidQueue
from training.simulator.interface import Observation, PodMetrics, Step
from training.simulator.metrics import ROWS, History, Lanes, Series, features, serving_cpu
from training.simulator.pods import NEVER, Pods, pick_ready
from training.simulator.service import BUCKETS, Demand, Served, ServiceModel
from training.simulator.settings import PARAMETERS, SimulatorSettings
from training.simulator.workload import Episode

_METRICS_READY_S = 30
"""A pod's CPU counts for the HPA once a window of the metrics API lies after its readiness."""
_FIRST_SAMPLE_S = 15
"""Until the metrics API knows a new pod."""
_INITIAL_HEADROOM = 1.4
_STABLE_S, _PANIC_S = 60, 6
"""Knative's windows."""


class ClusterLanes:
    """N independent clusters with one workload each."""

    def __init__(
        self,
        settings: SimulatorSettings,
        objective: Objective,
        lanes: int,
        *,
        service: Callable[[int, float], ServiceModel] = FluidQueue,
    ) -> None:
        """Make lanes that wait for their first reset.

        Args:
            settings: What each lane's parameters are drawn from.
            objective: Limit, bounds and interval.
            lanes: N.
            service: The engine's service model, made from N and the latency limit.
        """
        self.settings = settings
        self.objective = objective
        self.lanes = lanes
        self._service = service(lanes, objective.latency_s)
        self._pods = Pods(lanes, objective.max_replicas)
        self._arrivals = Arrivals(lanes)
        self._history = History(lanes)
        self._totals = np.zeros((ROWS, lanes))
        self._retry = np.zeros(lanes, dtype=np.float32)
        self._seed = np.zeros(lanes, dtype=np.uint64)
        self._offset = np.zeros(lanes, dtype=np.int64)
        self._end_s = np.zeros(lanes, dtype=np.int64)
        self._now = 0
        self.parameters: dict[str, NDArray[np.float64]] = {
            name: np.ones(lanes) for name in PARAMETERS
        }

    @property
    def totals(self) -> NDArray[np.float64]:
        """The true counters and gauges (ROWS, N), for checks; no policy may see them."""
        return self._totals.copy()

    @property
    def waiting_retries(self) -> NDArray[np.float32]:
        """Failed attempts that clients will repeat (N,)."""
        return self._retry.copy()

    @property
    def age_s(self) -> NDArray[np.int64]:
        """Seconds since each lane's episode began (N,)."""
        return self._now - self._offset

    @property
    def current_replicas(self) -> NDArray[np.int64]:
        """Replicas wanted now (N,)."""
        return self._pods.count.copy()

    @property
    def ready_replicas(self) -> NDArray[np.int64]:
        """Pods that are ready now (N,)."""
        return self._pods.ready_count(self._now)

    def reset(self, lanes: NDArray[np.int64], episodes: Sequence[Episode]) -> None:
        """Begin an episode in each of some lanes (K,).

        Raises:
            InvalidRequest: Not as many episodes as lanes.
        """
        if len(lanes) != len(episodes):
            message = (
                f"reset: expected {len(lanes)} episodes for as many lanes, got {len(episodes)}"
            )
            raise InvalidRequest(message)
        if len(lanes) == 0:
            return
        seed = np.array([episode.seed for episode in episodes], dtype=np.uint64)
        seed = hashed(seed, 0, Purpose.PARAMETER)
        drawn = self.settings.draw(seed, self.objective)
        for name, values in drawn.items():
            self.parameters[name][lanes] = values
        self._seed[lanes] = seed
        self._offset[lanes] = self._now
        interval_s = self.objective.interval_s
        self._end_s[lanes] = [e.length(interval_s) * interval_s for e in episodes]
        self._retry[lanes] = 0.0
        self._totals[:, lanes] = 0.0
        busy = np.array([e.workload.at(np.array([e.start_s + 0.5]))[0] * e.scale for e in episodes])
        replicas = self._initial(busy, episodes)
        self._pods.reset(lanes, replicas, seed, drawn, self._now)
        self._service.reset(lanes, seed, drawn)
        steady = _steady_state(busy, replicas, drawn)
        self._totals[Series.IN_FLIGHT, lanes] = steady[Series.IN_FLIGHT]
        self._history.backfill(lanes, steady, self._now)
        for index, (lane, episode) in enumerate(zip(lanes.tolist(), episodes, strict=True)):
            self._arrivals.reset(lane, episode, float(drawn["service_time_s"][index]), self._now)

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Put every lane into the state of its leader (N,), which plays the same episode."""
        self._pods.follow(leader)
        self._service.follow(leader)
        self._history.follow(leader)
        self._totals[:] = self._totals[:, leader]
        self._retry[:] = self._retry[leader]

    def observe(self) -> NDArray[np.float64]:
        """The eleven features (N, F) as Prometheus shows them now; NaN is an absent series."""
        return features(self._history, self._pods, self._asked())

    def observation(self) -> Observation:
        """Everything that a policy may know now."""
        return Observation(
            raw=self.observe(),
            current_replicas=self.current_replicas,
            ready_replicas=self.ready_replicas,
            pods=self.pod_metrics(),
            concurrency=self._concurrency(),
            lane=np.arange(self.lanes),
            time_s=self.age_s,
        )

    def pod_metrics(self) -> PodMetrics:
        """What the HPA controller would find now."""
        pods, now = self._pods, self._now
        exists = pods.created_at < NEVER
        ready = pods.ready_at <= now
        usable = pods.ready_at <= now - _METRICS_READY_S
        fresh = exists & (pods.created_at > now - _FIRST_SAMPLE_S) & ~ready
        measured = np.count_nonzero(usable, axis=1).astype(np.int64)
        missing = np.count_nonzero(fresh, axis=1).astype(np.int64)
        return PodMetrics(
            cpu_utilization=serving_cpu(self._history, self._asked(), now),
            measured=measured,
            missing=missing,
            unready=self._pods.count - measured - missing,
        )

    def step(self, target_replicas: NDArray[np.int64]) -> Step:
        """Scale every lane, then let one decision interval pass.

        Args:
            target_replicas: Replicas wanted (N,); clipped to the objective's bounds.
        """
        objective = self.objective
        target = np.clip(target_replicas, objective.min_replicas, objective.max_replicas)
        drained_s = self._scale(target)
        seconds = objective.interval_s
        speed = self._pods.total_speed(self._now)
        ready = self.ready_replicas.astype(np.float32)
        change = self._pods.transitions(self._now, seconds)
        outcome = np.zeros((3, self.lanes))  # arrivals, violations, failed
        before = self._totals[Series.BUCKET :].copy()
        for second in range(seconds):
            speed += change.speed[second]
            ready += change.ready[second]
            fresh = self._arrivals.at(self._now)
            demand = Demand(fresh, self._take_retries(), speed, ready, self._speeds)
            served = self._service.serve(demand, self.age_s)
            self._record(demand, served)
            outcome[0] += fresh
            outcome[1] += served.violations
            outcome[2] += served.failed
            self._now += 1
            self._history.row(self._now)[:] = self._totals
        self._kill_over_limit()
        truncated = self.age_s >= self._end_s
        return Step(
            pod_seconds=target * float(seconds) + drained_s,
            arrivals=outcome[0],
            violations=outcome[1],
            failed=outcome[2],
            responses=(self._totals[Series.BUCKET :] - before).T,
            terminated=np.zeros(self.lanes, dtype=np.bool_),
            truncated=truncated,
        )

    def _asked(self) -> Lanes:
        return Lanes(self._seed, self.parameters, self.age_s, self._offset)

    def _concurrency(self) -> NDArray[np.float64]:
        windows = [
            self._history.mean(Series.IN_FLIGHT, self._now, seconds)
            for seconds in (_STABLE_S, _PANIC_S)
        ]
        return np.stack(windows, axis=1)

    def _initial(self, busy: NDArray[np.float64], episodes: Sequence[Episode]) -> NDArray[np.int64]:
        wanted = np.ceil(_INITIAL_HEADROOM * busy).astype(np.int64) + 1
        given = [e.initial_replicas for e in episodes]
        chosen = [w if g is None else g for w, g in zip(wanted.tolist(), given, strict=True)]
        return np.clip(
            np.array(chosen, dtype=np.int64),
            self.objective.min_replicas,
            self.objective.max_replicas,
        )

    def _scale(self, target: NDArray[np.int64]) -> NDArray[np.float64]:
        """Create and remove pods; the draining time of the removed ones (N,), pod-seconds."""
        drained_s = np.zeros(self.lanes)
        lanes = np.flatnonzero(target != self._pods.count)
        if len(lanes):
            own = {name: values[lanes] for name, values in self.parameters.items()}
            removed = self._pods.scale(
                lanes,
                target[lanes],
                self._seed[lanes],
                own,
                now=self._now,
                age_s=self.age_s[lanes],
            )
            drained_s[lanes] = removed * own["termination_s"]
        return drained_s

    def _speeds(self) -> NDArray[np.float32]:
        return self._pods.speeds(self._now)

    def _take_retries(self) -> NDArray[np.float32]:
        share = (1.0 / self.parameters["retry_delay_s"]).astype(np.float32)
        due: NDArray[np.float32] = self._retry * share
        self._retry -= due
        return due

    def _record(self, demand: Demand, served: Served) -> None:
        """Add one second to the counters and set the gauges."""
        p, totals = self.parameters, self._totals
        self._retry += served.failed * p["retry_ratio"].astype(np.float32)
        totals[Series.COMPLETED] += served.completed
        totals[Series.FAILED] += served.failed
        busy = served.busy / np.maximum(demand.ready, 1.0)
        totals[Series.CPU] += busy * p["cpu_share_ratio"] + p["idle_cpu_ratio"]
        totals[Series.THROTTLED] += served.contention * busy * p["throttling_gain"]
        totals[Series.BUCKET :] += served.buckets
        totals[Series.IN_FLIGHT] = served.in_flight
        totals[Series.READY] = demand.ready
        totals[Series.PODS] = self._pods.count

    def _kill_over_limit(self) -> None:
        """One pod of each lane whose pods are over their memory limit is killed."""
        p = self.parameters
        each = self._totals[Series.IN_FLIGHT] / np.maximum(self._totals[Series.READY], 1.0)
        over = p["memory_base_ratio"] + p["memory_per_request_ratio"] * each > 1.0
        lanes = np.flatnonzero(over)
        lanes = lanes[self.ready_replicas[lanes] > 0]
        if len(lanes) == 0:
            return
        ready = self._pods.ready(self._now)[lanes]
        slot = pick_ready(ready, self._seed[lanes], self._now)
        lost = self._service.drop(lanes, slot, np.count_nonzero(ready, axis=1))
        self._totals[Series.FAILED, lanes] += lost
        self._pods.kill(
            lanes, slot, p["restart_backoff_s"][lanes], p["startup_s"][lanes], self._now
        )


def _steady_state(
    busy: NDArray[np.float64],
    replicas: NDArray[np.int64],
    parameters: dict[str, NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Counters per second and gauges (ROWS, K) of lanes that have long served a constant load."""
    steady = np.zeros((ROWS, len(busy)))
    working = np.minimum(busy, replicas)
    steady[Series.COMPLETED] = working / parameters["service_time_s"]
    steady[Series.CPU] = (
        working / replicas * parameters["cpu_share_ratio"] + parameters["idle_cpu_ratio"]
    )
    steady[Series.IN_FLIGHT] = working
    steady[Series.READY] = replicas
    steady[Series.PODS] = replicas
    mean = parameters["service_time_s"]
    half = np.minimum(np.sqrt(3.0) * parameters["service_cv"], 0.95) * mean
    share = (BUCKETS[:, None] - (mean - half)) / np.maximum(2.0 * half, 1e-9)
    steady[Series.BUCKET :] = steady[Series.COMPLETED] * np.clip(share, 0.0, 1.0)
    return steady
