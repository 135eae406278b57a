"""A live loop that can be broken: the demo's stage, with an honest liar before two of its servers.

Real pods under a steady load behind a real haproxy, a real Prometheus with the shipped rules, the
real transformer and predictor, the operator as a process. Its interval is two seconds (or what a
drill says), so that a story of minutes is told in seconds; every other number is the operator's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.demo.deciders import OperatorProcess, operator
from tests.demo.stage import Lane, Stage, stage, transformer_of
from tests.demo.traffic import Driver, Traffic
from tests.drills.between import Between
from tests.live.stack import NAMESPACE
from tests.service.processes import running
from tests.standin.kube_api import Scaling

INTERVAL_S = 2.0
WEB = "web"
REPLICAS = 4
RATE = 16.0
"""Requests/s: two pods are too few for them, four are enough."""
_HOURS_S = 7200.0
_POLL_S = 0.05


@dataclass(slots=True, kw_only=True)
class Site:
    """Everything that a drill breaks and looks at."""

    on: Stage
    lane: Lane
    kserve: Between
    prometheus: Between

    @asynccontextmanager
    async def operator(self, identity: str, **environ: str) -> AsyncIterator[OperatorProcess]:
        """An operator that sees KServe and Prometheus through the liars; it has its own lease."""
        settings = {
            "KSERVE_ENDPOINT": self.kserve.url,
            "PROMETHEUS_ENDPOINT": self.prometheus.url,
            "AUTOSCALER_LEASE": f"{NAMESPACE}/{identity}",
        }
        async with operator(self.on, identity=identity, **(settings | environ)) as running:
            yield running

    @asynccontextmanager
    async def policy(
        self, name: str = WEB, namespace: str = NAMESPACE, **spec: Any
    ) -> AsyncIterator[None]:
        """A policy that acts on the Deployment of that name, judged by the metrics of the pods.

        Its stabilization window is the guard's own unless `spec` has another.
        """
        defaults = {
            "mode": "act",
            "intervalSeconds": INTERVAL_S,
            "replicas": {"min": 1, "max": 10},
            "metrics": {"namespace": NAMESPACE, "workload": WEB},
        }
        self.on.cluster.policy(name, namespace, **(defaults | spec))
        try:
            yield
        finally:
            self.on.cluster.delete("nimbusguard.io", "scalingpolicies", namespace, name)

    def source(self, name: str = WEB, namespace: str = NAMESPACE) -> str:
        """Who decided last."""
        return str(self.on.cluster.status(name, namespace).get("source"))

    def condition(self, kind: str, name: str = WEB, namespace: str = NAMESPACE) -> dict[str, Any]:
        return self.on.cluster.condition(name, kind, namespace)

    def replicas(self, name: str = WEB, namespace: str = NAMESPACE) -> int:
        """What is wanted now."""
        return self.on.cluster.replicas(name, namespace)

    def set_replicas(self, replicas: int, name: str = WEB, namespace: str = NAMESPACE) -> None:
        """As `kubectl scale`."""
        self.on.cluster.deployment(name, replicas, namespace)

    async def settled(self, lane: Lane) -> None:
        """Wait until as many pods serve as are wanted."""
        await until(
            f"the pods of {lane.workload} serve",
            lambda: lane.kubelet.running == self.replicas(lane.workload) == len(lane.kubelet.pods),
            60.0,
        )

    def scalings(self, since_s: float, *callers: str) -> list[Scaling]:
        """What the operators of these names wrote since a moment; every operator if none is."""
        return [
            one
            for one in self.on.cluster.scalings
            if one.at_s >= since_s and (not callers or one.caller in callers)
        ]

    async def restart_kserve(self) -> None:
        """Start both servers anew, as the kubelet does, and let the Service lead to them."""
        on, number = self.on, time.monotonic_ns()
        on.predictor = await asyncio.to_thread(
            on.exit.enter_context, running("predictor", on.folder / f"predictor-{number}.log")
        )
        on.transformer = await asyncio.to_thread(
            on.exit.enter_context,
            transformer_of(on.predictor, on.folder / f"transformer-{number}.log"),
        )
        self.kserve.target = on.transformer.url


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Start it all, under load."""
    async with AsyncExitStack() as stack:
        on = await stack.enter_async_context(stage(folder))
        lane = await on.lane(WEB, REPLICAS)
        kserve = await stack.enter_async_context(
            Between(on.transformer.url, ":predict").listening()
        )
        prometheus = await stack.enter_async_context(
            Between(on.stack.endpoint, "/query").listening()
        )
        steady = Traffic(name="steady", peak_rate=RATE, seconds=_HOURS_S, rate=lambda since: RATE)
        driving = asyncio.create_task(
            Driver(steady, {WEB: lane.balancer.url}, seed=5, objective_s=0.5).run()
        )
        try:
            yield Site(on=on, lane=lane, kserve=kserve, prometheus=prometheus)
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)


async def until(what: str, holds: Callable[[], bool | Awaitable[bool]], within_s: float) -> float:
    """Wait for a fact; how long it took."""
    started = time.monotonic()
    while True:
        found = holds()
        if await found if isinstance(found, Awaitable) else found:
            return time.monotonic() - started
        assert time.monotonic() - started < within_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(_POLL_S)


async def decisions(operator: OperatorProcess, count: int) -> None:
    """Wait for so many more decisions of an operator: the drill is about what they are."""
    before = sum((await operator.answers()).values())

    async def made() -> bool:
        return sum((await operator.answers()).values()) >= before + count

    await until(f"{count} decisions", made, 10.0 + 3 * count * INTERVAL_S)


def window(seconds: float) -> dict[str, Any]:
    """A stabilization window, as part of a spec."""
    return {"scaleDown": {"stabilizationWindowSeconds": seconds}}


def removals(scalings: list[Scaling]) -> list[Scaling]:
    """Those that made replicas fewer; where there is none, the direction did not turn either."""
    return [one for one in scalings if one.after < one.before]
