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
from training.simulator.ledger import Ledger, steady_state
from training.simulator.metrics import History, Lanes, Series, features, serving_cpu
from training.simulator.pods import NEVER, Pods, pick_ready
from training.simulator.service import Demand, Retries, ServiceModel
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
        self._ledger = Ledger(lanes)
        self._retries = Retries(lanes)
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
        return self._ledger.totals.copy()

    @property
    def waiting_retries(self) -> NDArray[np.float32]:
        """Failed attempts that clients will repeat (N,)."""
        return self._retries.waiting.copy()

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
        self._retries.reset(lanes, drawn)
        busy = np.array([e.workload.at(np.array([e.start_s + 0.5]))[0] * e.scale for e in episodes])
        replicas = self._initial(busy, episodes)
        self._pods.reset(lanes, replicas, seed, drawn, self._now)
        self._service.reset(lanes, seed, drawn)
        steady = steady_state(busy, replicas, drawn)
        self._ledger.reset(lanes, steady, drawn)
        self._history.backfill(lanes, steady, self._now)
        for index, (lane, episode) in enumerate(zip(lanes.tolist(), episodes, strict=True)):
            self._arrivals.reset(lane, episode, float(drawn["service_time_s"][index]), self._now)

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Put every lane into the state of its leader (N,), which plays the same episode."""
        self._pods.follow(leader)
        self._service.follow(leader)
        self._history.follow(leader)
        self._ledger.totals[:] = self._ledger.totals[:, leader]
        self._retries.follow(leader)

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
            cpu_utilization=serving_cpu(self._history, self._asked()),
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
        before = self._ledger.totals[Series.BUCKET :].copy()
        demand = self._demand(seconds)
        served = self._service.serve(demand)
        self._ledger.record(demand, served, self._pods.count, self._history, self._now)
        self._now += seconds
        self._kill_over_limit()
        return Step(
            pod_seconds=target * float(seconds) + drained_s,
            arrivals=demand.fresh.sum(axis=0, dtype=np.float64),
            violations=served.violations.sum(axis=0, dtype=np.float64),
            failed=served.failed.sum(axis=0, dtype=np.float64),
            responses=(self._ledger.totals[Series.BUCKET :] - before).T,
            terminated=np.zeros(self.lanes, dtype=np.bool_),
            truncated=self.age_s >= self._end_s,
        )

    def _demand(self, seconds: int) -> Demand:
        """Requests that will come in some seconds, and the pods that will be ready for them."""
        now = self._now
        change = self._pods.transitions(now, seconds)
        speed, ready = change.speed, change.ready
        speed[0] += self._pods.total_speed(now)
        ready[0] += self.ready_replicas
        for second in range(1, seconds):
            speed[second] += speed[second - 1]
            ready[second] += ready[second - 1]
        fresh = np.stack([self._arrivals.at(now + second) for second in range(seconds)])
        return Demand(
            fresh,
            speed,
            ready,
            lambda second: self._pods.speeds(now + second),
            self._retries,
            self.age_s,
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

    def _kill_over_limit(self) -> None:
        """One pod of each lane whose pods are over their memory limit is killed."""
        p = self.parameters
        each = p["memory_per_request_ratio"] * self._ledger.in_flight_per_pod()
        over = p["memory_base_ratio"] + each > 1.0
        lanes = np.flatnonzero(over)
        lanes = lanes[self.ready_replicas[lanes] > 0]
        if len(lanes) == 0:
            return
        ready = self._pods.ready(self._now)[lanes]
        slot = pick_ready(ready, self._seed[lanes], self.age_s[lanes])
        lost = self._service.drop(lanes, slot, np.count_nonzero(ready, axis=1))
        self._ledger.totals[Series.FAILED, lanes] += lost
        self._pods.kill(
            lanes, slot, p["restart_backoff_s"][lanes], p["startup_s"][lanes], self._now
        )
