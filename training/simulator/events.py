"""The event-driven engine: the same interface as the fast one, every request on its own.

Slower by a factor of a thousand and without its approximations: real service times (log-normal),
real pods with their own speeds, real order of events. It judges; the fast engine trains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from training.simulator.service import BUCKETS, CONTENDED, Demand, Served
from training.simulator.stations import Job, Outcome, SharedQueue, SharingPods, Station

_MIDDLE: Final = 0.5
Discipline = Callable[[float, float, float], Station]
"""Makes a lane's station from time-out, limit per pod and sharing ratio."""
Sizes = Callable[[np.random.Generator, int, float, float], NDArray[np.float64]]


def by_sharing(timeout_s: float, limit_per_pod: float, sharing_ratio: float) -> Station:
    """The discipline that the lane's sharing ratio is nearer to; in the middle, sharing pods."""
    if sharing_ratio < _MIDDLE:
        return SharedQueue(timeout_s, limit_per_pod)
    return SharingPods(timeout_s, limit_per_pod)


def shared_queue(timeout_s: float, limit_per_pod: float, sharing_ratio: float) -> Station:
    """One queue before all pods, whatever the ratio."""
    del sharing_ratio
    return SharedQueue(timeout_s, limit_per_pod)


def sharing_pods(timeout_s: float, limit_per_pod: float, sharing_ratio: float) -> Station:
    """Sharing pods behind a least-connections balancer, whatever the ratio."""
    del sharing_ratio
    return SharingPods(timeout_s, limit_per_pod)


def lognormal_sizes(
    rng: np.random.Generator, count: int, mean_s: float, cv: float
) -> NDArray[np.float64]:
    """Service times (count,) with a mean and a coefficient of variation."""
    variance = np.log1p(cv**2)
    sizes: NDArray[np.float64] = rng.lognormal(
        np.log(mean_s) - variance / 2.0, np.sqrt(variance), count
    )
    return sizes


@dataclass(slots=True, kw_only=True)
class _Lane:
    """One workload's station and its own sources of chance."""

    station: Station
    rng: np.random.Generator
    mean_s: float
    cv: float
    stubborn_ratio: float
    now_s: float = 0.0
    owed: float = 0.0
    """Fraction of a repeated request not yet sent."""


class EventQueue:
    """Service model that follows every request; see `ServiceModel`."""

    def __init__(
        self,
        lanes: int,
        latency_s: float,
        *,
        discipline: Discipline = by_sharing,
        sizes: Sizes = lognormal_sizes,
    ) -> None:
        """Make lanes that wait for their first reset.

        Args:
            lanes: N.
            latency_s: Slower requests violate the objective.
            discipline: Makes a lane's station.
            sizes: Draws service times from generator, count, mean and coefficient of variation.
        """
        self._latency_s = latency_s
        self._discipline = discipline
        self._sizes = sizes
        self._lanes: list[_Lane | None] = [None] * lanes

    def reset(
        self,
        lanes: NDArray[np.int64],
        seed: NDArray[np.uint64],
        parameters: dict[str, NDArray[np.float64]],
    ) -> None:
        """Start empty."""
        for index, lane in enumerate(lanes.tolist()):
            timeout_s = float(parameters["timeout_s"][index])
            limit = float(parameters["backlog_per_pod"][index])
            sharing = float(parameters["sharing_ratio"][index])
            self._lanes[lane] = _Lane(
                station=self._discipline(timeout_s, limit, sharing),
                rng=np.random.default_rng([int(seed[index]), 2]),
                mean_s=float(parameters["service_time_s"][index]),
                cv=float(parameters["service_cv"][index]),
                stubborn_ratio=float(parameters["wasted_ratio"][index]),
            )

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Refuse: single requests in service are not copied from lane to lane.

        Raises:
            InvalidRequest: Always.
        """
        message = f"follow: expected the fast engine, got the event engine with {len(leader)} lanes"
        raise InvalidRequest(message)

    def drop(
        self, lanes: NDArray[np.int64], slot: NDArray[np.int64], ready: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Lose what the killed pods held."""
        lost = np.zeros(len(lanes))
        for index, lane in enumerate(lanes.tolist()):
            held = self._lanes[lane]
            if held is not None:
                lost[index] = held.station.lose(int(slot[index]), 1.0 / float(ready[index]))
        return lost

    def serve(self, demand: Demand) -> Served:
        """Let some seconds pass, request by request."""
        seconds, count = demand.fresh.shape
        rows = np.zeros((6, seconds, count), dtype=np.float32)
        buckets = np.zeros((seconds, len(BUCKETS), count), dtype=np.float32)
        for second in range(seconds):
            repeated = demand.retries.take()
            each = demand.each(second)  # (N, P)
            for index, lane in enumerate(self._lanes):
                if lane is None:
                    continue
                self._second(lane, each[index], int(demand.fresh[second, index]), repeated[index])
                outcome, lane.station.outcome = lane.station.outcome, Outcome()
                self._tally(outcome, lane.mean_s, rows[:, second, index], buckets[second, :, index])
                rows[5, second, index] = lane.station.in_flight()
            demand.retries.add(rows[1, second])
        return Served(
            violations=rows[0],
            failed=rows[1],
            completed=rows[2],
            buckets=buckets,
            busy=rows[3],
            contention=rows[4],
            in_flight=rows[5],
        )

    def _second(
        self, lane: _Lane, speeds: NDArray[np.float32], fresh: int, repeated: np.float32
    ) -> None:
        slots = np.flatnonzero(speeds > 0.0)
        lane.station.set_pods(
            dict(zip(slots.tolist(), speeds[slots].tolist(), strict=True)), lane.now_s
        )
        lane.owed += float(repeated)
        again = int(lane.owed)
        lane.owed -= again
        lane.station.run(self._jobs(lane, fresh, again), lane.now_s + 1.0)
        lane.now_s += 1.0

    def _jobs(self, lane: _Lane, fresh: int, repeated: int) -> list[Job]:
        count = fresh + repeated
        rng = lane.rng
        times = lane.now_s + np.sort(rng.random(count))
        sizes = self._sizes(rng, count, lane.mean_s, lane.cv)
        first = rng.permutation(count) < fresh if repeated else np.ones(count, dtype=np.bool_)
        stubborn = rng.random(count) < lane.stubborn_ratio
        return list(
            map(
                Job._make,
                zip(times.tolist(), sizes.tolist(), first.tolist(), stubborn.tolist(), strict=True),
            )
        )

    def _tally(
        self,
        outcome: Outcome,
        mean_s: float,
        row: NDArray[np.float32],
        bucket: NDArray[np.float32],
    ) -> None:
        late = sum(fresh for response_s, fresh in outcome.responses if response_s > self._latency_s)
        row[0] = late + outcome.late_failed
        row[1] = outcome.failed
        row[2] = len(outcome.responses)
        row[3] = outcome.busy_s
        if outcome.responses:
            times = np.array([response_s for response_s, _ in outcome.responses])
            row[4] = np.mean(times > CONTENDED * mean_s)
            bucket[:] = np.searchsorted(np.sort(times), BUCKETS, side="right")
