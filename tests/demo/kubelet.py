"""The part of the cluster that starts and ends pods: real processes, as the Deployment says."""

from __future__ import annotations

import asyncio

from tests.demo.balancer import Balancer
from tests.live.stack import NAMESPACE, LiveStack
from tests.standin.kube_api import StandIn

WORKLOAD = "web"
_LOOK_S = 0.2
_DRAIN_S = 0.3


class Kubelet:
    """Makes the processes what the stand-in's Deployment asks for, and the balancer know them."""

    def __init__(self, cluster: StandIn, stack: LiveStack, balancer: Balancer) -> None:
        self._cluster = cluster
        self._stack = stack
        self._balancer = balancer
        self.running = 0
        """Pods that serve now."""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.settle()
            await asyncio.sleep(_LOOK_S)

    async def settle(self) -> None:
        """Start or end pods, once."""
        wanted = self._cluster.replicas(WORKLOAD, NAMESPACE)
        pods = [pod for pod in self._stack.pods if pod.workload == WORKLOAD]
        if wanted == len(pods):
            return
        for pod in pods[wanted:]:
            await self._balancer.remove(pod.name)
        if pods[wanted:]:
            await asyncio.sleep(_DRAIN_S)
        known = {pod.name for pod in pods}
        # One at a time, so that the first serves while the next starts.
        step = len(pods) + 1 if wanted > len(pods) else wanted
        await asyncio.to_thread(self._stack.scale, WORKLOAD, step)
        for pod in self._stack.pods:
            if pod.workload == WORKLOAD and pod.name not in known:
                await self._balancer.add(pod.name, int(pod.url.rpartition(":")[2]))
        self.running = sum(pod.workload == WORKLOAD for pod in self._stack.pods)
