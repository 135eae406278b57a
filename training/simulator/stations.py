"""Request by request: the pods of one workload as queueing stations, for the event-driven engine.

Two disciplines. `SharedQueue` is one queue before all pods, each pod working on one request at a
time: M/G/c. `SharingPods` sends each request to a pod at once, which shares itself equally among
its requests: what HTTP servers behind a balancer do. The balancer picks the pod with the fewest
requests (`fewest`: haproxy leastconn, Envoy least request) or any (`any_pod`: kube-proxy).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np


class Job(NamedTuple):
    """One attempt of a request."""

    arrival_s: float
    size_s: float
    """Time that it needs from a pod of speed 1 alone."""
    fresh: bool
    """Not a repetition."""
    stubborn: bool
    """A pod works on it even when its client has left."""


class Outcome:
    """What happened since it was last taken; responses are in seconds."""

    __slots__ = ("busy_s", "failed", "late_failed", "responses", "waits")

    def __init__(self) -> None:
        self.responses: list[tuple[float, bool]] = []
        """Response time and whether the attempt was fresh."""
        self.waits: list[float] = []
        """Time until service began; kept by the shared queue alone."""
        self.failed = 0
        self.late_failed = 0
        """Failed attempts that were fresh."""
        self.busy_s = 0.0

    def fail(self, job: Job) -> None:
        """Count a failed attempt."""
        self.failed += 1
        self.late_failed += job.fresh


class Station(Protocol):
    """Pods that answer requests."""

    outcome: Outcome

    def set_pods(self, speeds: dict[int, float], now_s: float) -> None:
        """The pods that take requests from now on: slot to speed."""
        ...

    def run(self, jobs: list[Job], until_s: float) -> None:
        """Take jobs in order of arrival, and let time pass."""
        ...

    def lose(self, slot: int, share: float) -> int:
        """A pod is killed: how many requests die with it."""
        ...

    def in_flight(self) -> int:
        """Requests waiting or in service."""
        ...


class SharedQueue:
    """One queue, first come first served, one request at a time in each pod."""

    def __init__(self, timeout_s: float, limit_per_pod: float) -> None:
        self.outcome = Outcome()
        self._timeout_s = timeout_s
        self._limit_per_pod = limit_per_pod
        self._speed: dict[int, float] = {}
        self._idle: list[int] = []
        self._busy: list[tuple[float, int, Job]] = []
        self._queue: deque[Job] = deque()
        self._left_s = 0.0
        self._serving: set[int] = set()

    def set_pods(self, speeds: dict[int, float], now_s: float) -> None:
        """The pods that take requests from now on; a removed one finishes its request."""
        if speeds == self._speed:
            return
        new = [slot for slot in speeds if slot not in self._speed]
        self._speed = dict(speeds)
        self._idle = [slot for slot in self._idle if slot in speeds]
        for slot in new:
            if slot not in self._serving:
                self._release(slot, now_s)

    def run(self, jobs: list[Job], until_s: float) -> None:
        """Take jobs in order of arrival, and let time pass."""
        busy, idle, queue = self._busy, self._idle, self._queue
        limit = self._limit_per_pod * max(len(self._speed), 1)
        for job in jobs:
            arrival_s = job[0]
            while busy and busy[0][0] <= arrival_s:
                self._finish()
            if idle:
                self._start(job, idle.pop(), arrival_s)
            elif len(queue) < limit:
                queue.append(job)
            else:
                self.outcome.fail(job)
        while busy and busy[0][0] <= until_s:
            self._finish()
        left_s = sum(end - until_s for end, _, _ in busy)
        self.outcome.busy_s -= left_s - self._left_s
        self._left_s = left_s

    def lose(self, slot: int, share: float) -> int:
        """The pod's request dies, and its share of those that wait."""
        del slot
        count = int(len(self._queue) * share)
        for _ in range(count):
            self.outcome.late_failed += self._queue.pop().fresh
        return count

    def in_flight(self) -> int:
        """Requests waiting or in service."""
        return len(self._queue) + len(self._busy)

    def _start(self, job: Job, slot: int, now_s: float) -> None:
        service_s = job.size_s / self._speed[slot]
        outcome = self.outcome
        outcome.busy_s += service_s
        outcome.waits.append(now_s - job.arrival_s)
        self._serving.add(slot)
        heapq.heappush(self._busy, (now_s + service_s, slot, job))

    def _finish(self) -> None:
        end_s, slot, job = heapq.heappop(self._busy)
        self._serving.discard(slot)
        if end_s - job.arrival_s <= self._timeout_s:
            self.outcome.responses.append((end_s - job.arrival_s, job.fresh))
        else:
            self.outcome.fail(job)
        if slot in self._speed:
            self._release(slot, end_s)

    def _release(self, slot: int, now_s: float) -> None:
        """A free pod takes the next request whose client still waits, or rests."""
        queue = self._queue
        while queue:
            job = queue.popleft()
            if job.stubborn or now_s - job.arrival_s <= self._timeout_s:
                self._start(job, slot, now_s)
                return
            self.outcome.fail(job)
        self._idle.append(slot)


class _Pod:
    """A processor-sharing server in virtual time: what each of its requests has got so far."""

    __slots__ = ("busy_since_s", "jobs", "speed", "touched_s", "version", "virtual_s")

    def __init__(self, speed: float, now_s: float) -> None:
        self.speed = speed
        self.jobs: list[tuple[float, int, Job]] = []
        self.virtual_s = 0.0
        self.touched_s = now_s
        self.version = 0
        self.busy_since_s = now_s

    def advance(self, now_s: float) -> None:
        """Give every request its equal share of the time since the last event."""
        if self.jobs:
            self.virtual_s += (now_s - self.touched_s) * self.speed / len(self.jobs)
        self.touched_s = now_s


Router = Callable[[list[_Pod]], _Pod]


def _load(pod: _Pod) -> int:
    return len(pod.jobs)


def fewest(pods: list[_Pod]) -> _Pod:
    """The first pod with the fewest requests."""
    return min(pods, key=_load)


def any_pod(rng: np.random.Generator) -> Router:
    """A router that picks by chance."""
    return lambda pods: pods[int(rng.random() * len(pods))]


class SharingPods:
    """A request goes to one pod at once; each pod is shared equally by its requests."""

    def __init__(self, timeout_s: float, limit_per_pod: float, *, router: Router = fewest) -> None:
        self.outcome = Outcome()
        self._router = router
        self._timeout_s = timeout_s
        self._limit = limit_per_pod
        self._pods: dict[int, _Pod] = {}
        self._open: list[int] = []
        self._events: list[tuple[float, int, int, _Pod]] = []
        self._serial = 0
        self._waiting: deque[Job] = deque()

    def set_pods(self, speeds: dict[int, float], now_s: float) -> None:
        """The pods that take requests from now on; a removed one finishes what it has."""
        for slot in [slot for slot in self._pods if slot not in speeds]:
            del self._pods[slot]
        for slot, speed in speeds.items():
            pod = self._pods.get(slot)
            if pod is None:
                self._pods[slot] = _Pod(speed, now_s)
            elif pod.speed != speed:
                pod.advance(now_s)
                pod.speed = speed
                self._schedule(pod, now_s)
        self._open = list(self._pods)
        while self._waiting and self._open:
            self._route(self._waiting.popleft(), now_s)

    def run(self, jobs: list[Job], until_s: float) -> None:
        """Take jobs in order of arrival, and let time pass."""
        for job in jobs:
            self._complete_until(job.arrival_s)
            if self._open:
                self._route(job, job.arrival_s)
            elif len(self._waiting) < self._limit:
                self._waiting.append(job)
            else:
                self.outcome.fail(job)
        self._complete_until(until_s)
        for pod in self._pods.values():
            if pod.jobs:
                self.outcome.busy_s += until_s - pod.busy_since_s
                pod.busy_since_s = until_s

    def lose(self, slot: int, share: float) -> int:
        """Everything in the pod dies."""
        del share
        pod = self._pods.pop(slot, None)
        if pod is None:
            return 0
        self._open = list(self._pods)
        pod.version += 1
        self.outcome.late_failed += sum(job.fresh for _, _, job in pod.jobs)
        return len(pod.jobs)

    def in_flight(self) -> int:
        """Requests waiting or in service in pods that take requests."""
        return len(self._waiting) + sum(len(pod.jobs) for pod in self._pods.values())

    def _route(self, job: Job, now_s: float) -> None:
        pods = self._pods
        # Equal counts go round: the balancer's pointer moves on with each request.
        self._serial += 1
        turn = self._serial % len(self._open)
        order = self._open[turn:] + self._open[:turn]
        pod = self._router([pods[slot] for slot in order])
        if len(pod.jobs) >= self._limit:
            self.outcome.fail(job)
            return
        pod.advance(now_s)
        if not pod.jobs:
            pod.busy_since_s = now_s
        heapq.heappush(pod.jobs, (pod.virtual_s + job.size_s, self._serial, job))
        self._schedule(pod, now_s)

    def _schedule(self, pod: _Pod, now_s: float) -> None:
        pod.version += 1
        if pod.jobs:
            left_s = (pod.jobs[0][0] - pod.virtual_s) * len(pod.jobs) / pod.speed
            self._serial += 1
            event = (now_s + max(left_s, 0.0), self._serial, pod.version, pod)
            heapq.heappush(self._events, event)

    def _complete_until(self, until_s: float) -> None:
        events = self._events
        while events and events[0][0] <= until_s:
            now_s, _, version, pod = heapq.heappop(events)
            if version != pod.version:
                continue
            pod.advance(now_s)
            _, _, job = heapq.heappop(pod.jobs)
            response_s = now_s - job.arrival_s
            if response_s <= self._timeout_s:
                self.outcome.responses.append((response_s, job.fresh))
            else:
                self.outcome.fail(job)
            if not pod.jobs:
                self.outcome.busy_s += now_s - pod.busy_since_s
            self._schedule(pod, now_s)
