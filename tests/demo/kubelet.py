"""The part of the cluster that starts and ends pods: real processes, as the Deployment says."""

from __future__ import annotations

import asyncio

from tests.demo.balancer import Balancer
from tests.live.stack import NAMESPACE, LiveStack, Pod
from tests.standin.kube_api import StandIn

_LOOK_S = 0.2
_DRAIN_S = 0.3
_NICENESS = 10
"""Pods stand back for Prometheus, KServe and the operator, so that load cannot starve deciders."""


class Kubelet:
    """Makes a workload's processes what its Deployment asks for, and the balancer know them."""

    def __init__(
        self, workload: str, cluster: StandIn, stack: LiveStack, balancer: Balancer
    ) -> None:
        self._workload = workload
        self._cluster = cluster
        self._stack = stack
        self._balancer = balancer
        self.gets_ready = True
        """Whether pods that start now get ready; those that serve already go on."""

    @property
    def pods(self) -> list[Pod]:
        return self._stack.pods_of(self._workload)

    @property
    def running(self) -> int:
        """Pods that serve now."""
        return sum(pod.ready for pod in self.pods)

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped; a pod that is being started is not left behind."""
        while not stop.is_set():
            await self.settle()
            await asyncio.sleep(_LOOK_S)

    async def settle(self) -> None:
        """One step towards what is wanted; one start at a time, so that no start takes all CPUs."""
        surplus = len(self.pods) - self._cluster.replicas(self._workload, NAMESPACE)
        if surplus > 0:
            await self._remove(surplus)
        elif surplus < 0:
            pod = await asyncio.to_thread(self._stack.start_pod, self._workload, niceness=_NICENESS)
            pod.ready = self.gets_ready
            self._stack.join(pod)
        for pod in self.pods:
            if self.gets_ready and not pod.ready:
                pod.ready = True
                self._stack.announce()
            if pod.ready and pod.name not in self._balancer:
                await self._balancer.add(pod.name, int(pod.url.rpartition(":")[2]))

    async def _remove(self, count: int) -> None:
        # As a ReplicaSet: those that are not ready first, then the newest.
        newest_first = self.pods[::-1]
        leaving = sorted(newest_first, key=lambda pod: pod.ready)[:count]
        for pod in leaving:
            pod.ready = False  # while it drains, it is none of those that serve
            if pod.name in self._balancer:
                await self._balancer.remove(pod.name)
        await asyncio.sleep(_DRAIN_S)
        for pod in leaving:
            self._stack.leave(pod)
            await asyncio.to_thread(pod.process.end)
