"""Who decides: the real operator as a process, or the HPA controller's algorithm beside it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.kube import ClusterAccess, KubeApi
from nimbusguard.client.prometheus import AsyncPrometheusClient, PrometheusSettings
from nimbusguard.contract.errors import NimbusGuardError
from nimbusguard.contract.features import INDEX
from tests.demo.stage import Lane, Stage
from tests.live.processes import Process, start
from tests.live.stack import NAMESPACE
from training.baselines.hpa import CpuHpa
from training.simulator.interface import Observation, PodMetrics

HPA_INTERVALS = 20
"""How many of its intervals the HPA keeps replicas for: 300 s of 15 s each."""
_SEEN_WITHIN_S = 20.0
_POLL_S = 0.02
_READ_S = 0.2
HPA_CALLER = "hpa"
"""Its name in the API server's list of calls."""
CONSOLE_PATH = "/console/"
"""Where the operator's console is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What both deciders are held to."""

    interval_s: float
    least: int = 1
    most: int = 12
    objective_s: float = 0.5

    @property
    def window_s(self) -> float:
        """Stabilization window of both: the HPA's, at this interval."""
        return HPA_INTERVALS * self.interval_s


class Answer(NamedTuple):
    """Who decided, and what; counted by the operator itself."""

    source: str
    action: str
    version: str = ""
    """Of the model; none where a rule decided."""


@dataclass(slots=True, kw_only=True)
class OperatorProcess:
    """`python -m autoscaler`, as a pod runs it."""

    process: Process
    url: str

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of `/metrics`, by name and labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as page:
            text = await page.text()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, name: str, /, **labels: str) -> float:
        """One sample; 0 while there is none."""
        return (await self.metrics()).get((name, frozenset(labels.items())), 0.0)

    async def answers(self) -> dict[Answer, float]:
        """How many decisions there were of each kind."""
        return {
            Answer(named["source"], named["action"], named["model_version"]): value
            for name, named, value in (
                (name, dict(labels), value)
                for (name, labels), value in (await self.metrics()).items()
            )
            if name == "nimbusguard_operator_decisions_total"
        }

    async def console(self) -> str | None:
        """The console's address; None where the operator has none."""
        address = f"{self.url}{CONSOLE_PATH}"
        async with aiohttp.ClientSession() as session, session.get(address) as page:
            is_page = page.status == 200 and page.content_type == "text/html"
        return address if is_page else None


@asynccontextmanager
async def operator(
    on: Stage, *, identity: str = "one", program: str = "autoscaler", **environ: str
) -> AsyncIterator[OperatorProcess]:
    """The real operator; it scales whatever policies the cluster holds.

    Args:
        on: What it works with.
        identity: Its name in the election and in the API server's list of calls.
        program: Module to run.
        environ: Settings beside those that lead it to the stage.
    """
    settings: Mapping[str, str] = {
        "KSERVE_ENDPOINT": on.transformer.url,
        "PROMETHEUS_ENDPOINT": on.stack.endpoint,
        "AUTOSCALER_KUBE_API": f"{on.cluster.url}/as/{identity}",
        "AUTOSCALER_IDENTITY": identity,
        "AUTOSCALER_LISTEN": "127.0.0.1",
        "AUTOSCALER_PORT": "0",
        **environ,
    }
    log = on.folder / f"operator-{identity}.log"
    process = start([sys.executable, "-m", program], log=log, environ=settings)
    try:
        line = await asyncio.to_thread(process.first_line)
        yield OperatorProcess(process=process, url=f"http://127.0.0.1:{line.split()[-1]}")
    finally:
        await asyncio.to_thread(process.end)


async def measured(on: Stage, lanes: Iterable[Lane]) -> None:
    """Wait until Prometheus knows the CPU of workloads: from then on both can be decided for."""
    settings = PrometheusSettings(endpoint=on.stack.endpoint)
    async with AsyncPrometheusClient(settings) as prometheus, asyncio.timeout(_SEEN_WITHIN_S):
        for lane in lanes:
            while not await _has_cpu(prometheus, lane):  # noqa: ASYNC110 - its state
                await asyncio.sleep(_READ_S)


async def _has_cpu(prometheus: AsyncPrometheusClient, lane: Lane) -> bool:
    try:
        raw = await prometheus.read(NAMESPACE, lane.workload)
    except NimbusGuardError:
        return False
    return bool(np.isfinite(raw[INDEX["cpu_utilization"]]))


@asynccontextmanager
async def policy(
    on: Stage, lane: Lane, terms: Terms, *, window_s: float | None = None
) -> AsyncIterator[None]:
    """A ScalingPolicy that acts on a lane; the block begins with the operator's first turn."""
    on.cluster.policy(
        lane.workload,
        NAMESPACE,
        mode="act",
        intervalSeconds=terms.interval_s,
        replicas={"min": terms.least, "max": terms.most},
        scaleDown={"stabilizationWindowSeconds": terms.window_s if window_s is None else window_s},
        objective={"latencySeconds": terms.objective_s},
    )
    try:
        async with asyncio.timeout(terms.interval_s + _SEEN_WITHIN_S):
            while not on.cluster.status(lane.workload, NAMESPACE):  # noqa: ASYNC110 - its state
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        on.cluster.delete("nimbusguard.io", "scalingpolicies", NAMESPACE, lane.workload)


@asynccontextmanager
async def hpa(
    on: Stage, lane: Lane, terms: Terms, *, prometheus: str | None = None
) -> AsyncIterator[None]:
    """The HPA on CPU at 70 %, from the same metrics at the same interval.

    It reads and writes replicas through the API server, as the operator does, and does nothing in a
    turn in which that or Prometheus does not answer.

    Args:
        on: What it works with.
        lane: What it scales.
        terms: Interval and bounds.
        prometheus: Where it reads metrics; the stage's own if None.
    """
    settings = PrometheusSettings(endpoint=prometheus or on.stack.endpoint)
    api = KubeApi(ClusterAccess(server=f"{on.cluster.url}/as/{HPA_CALLER}"))
    async with aclosing(api), AsyncPrometheusClient(settings) as client:
        task = asyncio.create_task(_control(api, client, lane, terms))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _control(
    api: KubeApi, prometheus: AsyncPrometheusClient, lane: Lane, terms: Terms
) -> None:
    controller, turn_s = CpuHpa(0.7), time.monotonic()
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{lane.workload}/scale"
    intervals = 0
    while True:
        await asyncio.sleep(turn_s - time.monotonic())
        # As the operator, it does not make up for turns that it missed.
        turn_s = max(turn_s + terms.interval_s, time.monotonic())
        with suppress(NimbusGuardError):
            raw = await prometheus.read(NAMESPACE, lane.workload)
            current = int((await api.get(path))["spec"]["replicas"])
            seen = _observation(raw, current, lane, time_s=15 * intervals)
            intervals += 1
            wanted = int(np.clip(controller.act(seen)[0], terms.least, terms.most))
            if wanted != current:
                await api.patch(path, {"spec": {"replicas": wanted}})


def _observation(
    raw: np.ndarray[tuple[int, ...], np.dtype[np.float64]], current: int, lane: Lane, *, time_s: int
) -> Observation:
    """What the controller would have from the metrics API: the CPU of pods that are ready."""
    ready = lane.kubelet.running
    unready = len(lane.kubelet.pods) - ready
    busy = raw[INDEX["cpu_utilization"]] * raw[INDEX["pod_count"]]
    none = np.zeros(1, dtype=np.int64)
    return Observation(
        raw=raw[None],
        current_replicas=np.array([current]),
        ready_replicas=np.array([ready]),
        concurrency=raw[None, INDEX["queue_depth"]],
        pods=PodMetrics(
            np.array([busy / max(ready, 1)]), np.array([ready]), none, np.array([unready])
        ),
        lane=none,
        time_s=np.array([time_s]),
    )
