"""What a run stands on: real pods, haproxy, Prometheus, transformer and predictor.

Simulated, because one machine is no cluster: the Kubernetes API (`tests/standin`), the kubelet, the
exporters that only a cluster has (`tests/live/exporters.py`), and limits: a pod's CPU limit slows
nobody down, but no reading says more than it, as none could in a cluster. Where a full pod showed
1.3, the HPA knew how much more was wanted, and asked for it in one step.

A pod is `tests/live/service.py`: a request waits for the pod's one worker, burns 8 ms of CPU and
sleeps for 90 ms, so a pod answers ten requests a second with a tenth of a core; at the demo's peak
the pods of both deciders use about one core, and stand back for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.demo.balancer import Balancer
from tests.demo.kubelet import Kubelet
from tests.live.stack import NAMESPACE, LiveStack
from tests.service.processes import Server, running
from tests.standin.kube_api import StandIn

SIMULATED = "the Kubernetes API, the kubelet, the exporters of a cluster, CPU limits, the HPA"
CPU_LIMIT = 0.08
"""Cores. A pod that is busy all the time burns that much in requests, and a little more in HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One workload with its own pods and its own way in."""

    workload: str
    balancer: Balancer
    kubelet: Kubelet


@dataclass(slots=True, kw_only=True)
class Stage:
    """Everything that whoever decides works with."""

    folder: Path
    cluster: StandIn
    stack: LiveStack
    predictor: Server
    transformer: Server
    exit: AsyncExitStack
    """What is ended with the stage, last come first."""

    async def lane(self, workload: str, replicas: int) -> Lane:
        """A workload with so many pods that serve."""
        self.cluster.deployment(workload, replicas, NAMESPACE)
        balancer = Balancer(self.folder, workload)
        self.exit.callback(balancer.end)
        kubelet = Kubelet(workload, self.cluster, self.stack, balancer)
        while kubelet.running != replicas:
            await kubelet.settle()
        stop = asyncio.Event()
        self.exit.push_async_callback(_stopped, stop, asyncio.create_task(kubelet.run(stop)))
        return Lane(workload=workload, balancer=balancer, kubelet=kubelet)


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Start API server, exporters, Prometheus, transformer and predictor."""
    async with AsyncExitStack() as stack:
        cluster = StandIn()
        await cluster.start()
        stack.push_async_callback(cluster.stop)
        live = stack.enter_context(LiveStack(folder=folder, cpu_limit=CPU_LIMIT, cpu_quota=True))
        predictor = stack.enter_context(running("predictor", folder / "predictor.log"))
        transformer = stack.enter_context(transformer_of(predictor, folder / "transformer.log"))
        yield Stage(
            folder=folder,
            cluster=cluster,
            stack=live,
            predictor=predictor,
            transformer=transformer,
            exit=stack,
        )


def transformer_of(predictor: Server, log: Path) -> AbstractContextManager[Server]:
    """A transformer in front of a predictor, as a pod runs it."""
    return running("transformer", log, f"--predictor_host=127.0.0.1:{predictor.http_port}")


async def _stopped(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    stop.set()
    await task
