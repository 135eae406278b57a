"""One run of the trace under one policy: NimbusGuard's real operator, or the emulated HPA."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nimbusguard.client.prometheus import AsyncPrometheusClient, PrometheusSettings
from nimbusguard.contract.errors import NimbusGuardError
from nimbusguard.contract.features import INDEX
from nimbusguard.contract.promql import WorkloadKey
from tests.demo.balancer import Balancer
from tests.demo.kubelet import WORKLOAD, Kubelet
from tests.demo.traffic import Driver, Request, Traffic
from tests.live.processes import start
from tests.live.stack import NAMESPACE, LiveStack
from tests.service.processes import running
from tests.standin.kube_api import StandIn
from training.baselines.hpa import CpuHpa
from training.simulator.interface import Observation, PodMetrics

INTERVAL_S = 5.0
"""A third of a cluster's 15 s, as the run is compressed."""
WINDOW_S = 100.0
"""Stabilization window of both: the 300 s of the HPA, compressed likewise."""
FIRST, LEAST, MOST = 2, 1, 12
OBJECTIVE_S = 0.5
_WORKLOAD_KEY: WorkloadKey = (NAMESPACE, WORKLOAD)


class Moment(NamedTuple):
    """What could be seen at one second of a run."""

    since_s: float
    rate: float
    """Requests/s that the trace asks for."""
    wanted: int
    running: int
    p95_s: float
    """Of the last five seconds, as the senders saw it."""
    action: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A whole run."""

    policy: str
    moments: list[Moment]
    requests: list[Request]
    not_sent: int

    @property
    def violations(self) -> int:
        """Requests that failed, were too slow, or could not even be sent."""
        bad = sum(not one.succeeded or one.took_s > OBJECTIVE_S for one in self.requests)
        return bad + self.not_sent

    @property
    def violation_ratio(self) -> float:
        return self.violations / max(len(self.requests) + self.not_sent, 1)

    @property
    def pod_seconds(self) -> float:
        return float(sum(moment.running for moment in self.moments))

    @property
    def changes(self) -> int:
        """How often the wanted replicas changed."""
        wanted = [moment.wanted for moment in self.moments]
        return sum(now != then for then, now in pairwise(wanted))

    def quantile_s(self, share: float) -> float:
        """Of the requests that were answered well."""
        took = [one.took_s for one in self.requests if one.succeeded]
        return float(np.quantile(took, share)) if took else float("nan")


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that both policies run on."""

    folder: Path
    cluster: StandIn
    stack: LiveStack
    balancer: Balancer
    kubelet: Kubelet
    transformer_url: str


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Start API server, Prometheus, exporters, haproxy, transformer and predictor."""
    async with AsyncExitStack() as stack:
        cluster = StandIn()
        await cluster.start()
        stack.push_async_callback(cluster.stop)
        cluster.deployment(WORKLOAD, FIRST, NAMESPACE)
        live = stack.enter_context(LiveStack(folder=folder))
        balancer = Balancer(folder)
        stack.callback(balancer.end)
        predictor = stack.enter_context(running("predictor", folder / "predictor.log"))
        host = f"--predictor_host=127.0.0.1:{predictor.http_port}"
        transformer = stack.enter_context(running("transformer", folder / "transformer.log", host))
        yield Stage(
            folder=folder,
            cluster=cluster,
            stack=live,
            balancer=balancer,
            kubelet=Kubelet(cluster, live, balancer),
            transformer_url=transformer.url,
        )


async def play(
    on: Stage, traffic: Traffic, policy: str, *, seed: int, show: Callable[[str, Moment], None]
) -> Round:
    """Run the trace under a policy, `nimbusguard` or `hpa`."""
    on.cluster.deployment(WORKLOAD, FIRST, NAMESPACE)
    while on.kubelet.running != FIRST:
        await on.kubelet.settle()
    moments: list[Moment] = []
    driver = Driver(traffic, on.balancer.url, seed)
    scaling = nimbusguard(on) if policy == "nimbusguard" else hpa(on)
    async with scaling, asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(on.kubelet.run())
        watching = tasks.create_task(_watch(on, driver, policy, moments, show))
        await driver.run()
        keeping.cancel()
        watching.cancel()
    return Round(policy=policy, moments=moments, requests=driver.requests, not_sent=driver.not_sent)


@asynccontextmanager
async def nimbusguard(on: Stage) -> AsyncIterator[None]:
    """The real operator as a process, with a policy that acts."""
    on.cluster.policy(
        WORKLOAD,
        NAMESPACE,
        mode="act",
        intervalSeconds=INTERVAL_S,
        replicas={"min": LEAST, "max": MOST},
        scaleDown={"stabilizationWindowSeconds": WINDOW_S},
        objective={"latencySeconds": OBJECTIVE_S},
    )
    operator = start(
        [sys.executable, "-m", "autoscaler"],
        log=on.folder / "operator.log",
        environ={
            "KSERVE_ENDPOINT": on.transformer_url,
            "PROMETHEUS_ENDPOINT": on.stack.endpoint,
            "AUTOSCALER_KUBE_API": on.cluster.url,
            "AUTOSCALER_LISTEN": "127.0.0.1",
            "AUTOSCALER_PORT": "0",
            "AUTOSCALER_EXPERIENCE_STORE": str(on.folder / "experience.db"),
        },
    )
    try:
        operator.first_line()
        yield
    finally:
        await asyncio.to_thread(operator.end)
        on.cluster.delete("nimbusguard.io", "scalingpolicies", NAMESPACE, WORKLOAD)


@asynccontextmanager
async def hpa(on: Stage) -> AsyncIterator[None]:
    """The HPA controller's algorithm on CPU at 70 %, from the same metrics at the same interval."""
    settings = PrometheusSettings(endpoint=on.stack.endpoint)
    async with AsyncPrometheusClient(settings) as prometheus:
        task = asyncio.create_task(_control(on, prometheus, CpuHpa(0.7)))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _control(on: Stage, prometheus: AsyncPrometheusClient, controller: CpuHpa) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(INTERVAL_S)
        try:
            raw = await prometheus.read(NAMESPACE, WORKLOAD)
        except NimbusGuardError:
            continue
        current = np.array([on.cluster.replicas(WORKLOAD, NAMESPACE)])
        pods = np.array([on.kubelet.running])
        none = np.zeros(1, dtype=np.int64)
        # The controller counts time in its own intervals of 15 s; so the window is 20 of ours.
        since = np.array([round((time.monotonic() - started) / INTERVAL_S * 15.0)])
        seen = Observation(
            raw=raw[None],
            current_replicas=current,
            ready_replicas=pods,
            concurrency=raw[None, INDEX["queue_depth"]],
            pods=PodMetrics(raw[None, INDEX["cpu_utilization"]], pods, none, none),
            lane=none,
            time_s=since,
        )
        wanted = int(np.clip(controller.act(seen)[0], LEAST, MOST))
        on.cluster.deployment(WORKLOAD, wanted, NAMESPACE)


async def _watch(
    on: Stage,
    driver: Driver,
    policy: str,
    moments: list[Moment],
    show: Callable[[str, Moment], None],
) -> None:
    """Note once a second what could be seen."""
    started = time.monotonic()
    while True:
        since = time.monotonic() - started
        recent = [one.took_s for one in driver.requests if one.sent_s > since - 5.0]
        known = policy == "nimbusguard"
        status = on.cluster.status(WORKLOAD, NAMESPACE) if known else {}
        moment = Moment(
            since_s=since,
            rate=driver.traffic.rate(since),
            wanted=on.cluster.replicas(WORKLOAD, NAMESPACE),
            running=on.kubelet.running,
            p95_s=float(np.quantile(recent, 0.95)) if recent else 0.0,
            action=str(status.get("action", "")),
            source=str(status.get("source", "hpa" if not known else "")),
        )
        moments.append(moment)
        show(policy, moment)
        await asyncio.sleep(max(0.0, started + len(moments) - time.monotonic()))
