"""One run of the traffic over workloads that different deciders scale, noted once a second."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import aiohttp
import numpy as np

from tests.demo.deciders import Answer, OperatorProcess, Terms, hpa, measured, policy
from tests.demo.stage import Lane, Stage
from tests.demo.traffic import Driver, Request, Traffic
from tests.live.stack import NAMESPACE

NIMBUSGUARD, HPA = "nimbusguard", "hpa"


class Moment(NamedTuple):
    """What could be seen at one second of a run."""

    since_s: float
    rate: float
    """Requests/s that the traffic asks for."""
    wanted: int
    running: int
    p95_s: float
    """Of the last five seconds, as the senders saw it."""
    violations: int
    """So far."""
    action: str
    source: str
    version: str
    """Of the model that decided."""
    machine_load: float
    """Load average of the machine over a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A whole run of one decider."""

    decider: str
    objective_s: float
    moments: list[Moment] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    not_sent: int = 0

    @property
    def sent(self) -> int:
        """Requests that the traffic asked for."""
        return len(self.requests) + self.not_sent

    @property
    def violations(self) -> int:
        """Requests that failed, were too slow, or could not even be sent."""
        return sum(one.violates(self.objective_s) for one in self.requests) + self.not_sent

    @property
    def late_s(self) -> float:
        """How late all but one in a hundred requests left: what this machine adds to a run."""
        late = [one.late_s for one in self.requests]
        return float(np.quantile(late, 0.99)) if late else 0.0

    @property
    def violation_ratio(self) -> float:
        return self.violations / max(self.sent, 1)

    @property
    def pod_seconds(self) -> float:
        return float(sum(moment.running for moment in self.moments))

    @property
    def wanted(self) -> list[int]:
        """Replicas that were asked for, second by second."""
        return [moment.wanted for moment in self.moments]

    def quantile_s(self, share: float) -> float:
        """Of the requests that were answered well."""
        took = [one.took_s for one in self.requests if one.succeeded]
        return float(np.quantile(took, share)) if took else float("nan")


def changes(replicas: Sequence[int]) -> int:
    """How often they changed."""
    return sum(now != then for then, now in pairwise(replicas))


def direction_changes(replicas: Sequence[int]) -> int:
    """How often a rise followed a fall, or a fall a rise."""
    steps = [now - then for then, now in pairwise(replicas) if now != then]
    return sum(one * other < 0 for one, other in pairwise(steps))


Show = Callable[[Mapping[str, Moment]], None]


async def play(
    on: Stage,
    traffic: Traffic,
    lanes: Mapping[str, Lane],
    terms: Terms,
    *,
    seed: int,
    by: OperatorProcess,
    window_s: float | None = None,
    show: Show = lambda moments: None,
) -> dict[str, Round]:
    """Run the traffic over a lane of the operator and one of the HPA, at the same time.

    Their turns begin together too: whose turn comes sooner after a surge would seem the better.

    Args:
        on: What they stand on.
        traffic: Sent to both, request by request at the same moment.
        lanes: `nimbusguard` and `hpa`.
        terms: What both are held to.
        seed: Of the arrivals.
        by: The operator.
        window_s: The policy's stabilization window, instead of the terms'.
        show: Hears each second's moment of each.
    """
    urls = {decider: lane.balancer.url for decider, lane in lanes.items()}
    driver = Driver(traffic, urls, seed=seed, objective_s=terms.objective_s)
    moments: dict[str, list[Moment]] = {decider: [] for decider in lanes}
    await measured(on, lanes.values())
    async with (
        policy(on, lanes[NIMBUSGUARD], terms, window_s=window_s),
        hpa(on, lanes[HPA], terms),
    ):
        watching = asyncio.create_task(_watch(on, driver, lanes, moments, by=by, show=show))
        await driver.run()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return {
        decider: Round(
            decider=decider,
            objective_s=terms.objective_s,
            moments=moments[decider],
            requests=driver.requests[decider],
            not_sent=driver.not_sent[decider],
        )
        for decider in lanes
    }


async def _watch(
    on: Stage,
    driver: Driver,
    lanes: Mapping[str, Lane],
    moments: Mapping[str, list[Moment]],
    *,
    by: OperatorProcess,
    show: Show,
) -> None:
    """Note once a second what could be seen."""
    started, counted, last = time.monotonic(), await by.answers(), Answer("", "")
    while True:
        since = time.monotonic() - started
        before = counted
        with suppress(aiohttp.ClientError, TimeoutError):  # the last answer stands until the next
            counted = await by.answers()
        last = next((one for one in counted if counted[one] > before.get(one, 0.0)), last)
        for decider, lane in lanes.items():
            answer = last if decider == NIMBUSGUARD else Answer("hpa", "")
            moment = Moment(
                since_s=since,
                rate=driver.traffic.rate(since),
                wanted=on.cluster.replicas(lane.workload, NAMESPACE),
                running=lane.kubelet.running,
                p95_s=driver.p95_s(decider, since),
                violations=driver.violations[decider],
                action=answer.action,
                source=answer.source,
                version=answer.version,
                machine_load=os.getloadavg()[0],
            )
            moments[decider].append(moment)
        show({decider: mine[-1] for decider, mine in moments.items()})
        await asyncio.sleep(max(0.0, started + len(moments[HPA]) - time.monotonic()))
