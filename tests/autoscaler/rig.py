"""A controller before a stand-in cluster, with metrics and advice that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from autoscaler.arms import Arm
from autoscaler.controller import Controller, Parts
from autoscaler.experience import ExperienceStore, Range
from autoscaler.fleet import Fleet
from autoscaler.kube import KubeApi
from autoscaler.metrics import OperatorMetrics
from autoscaler.observe import Workload
from autoscaler.publish import Publisher
from autoscaler.recording import Recorder
from autoscaler.scale import Scaler
from nimbusguard.client.decision import Decision
from nimbusguard.client.fallback import DecisionChain, FallbackSettings
from nimbusguard.client.instances import NamedMetrics
from nimbusguard.contract.actions import ScaleAction, allowed_actions
from nimbusguard.contract.normalization import NO_FEATURES
from tests.autoscaler.harness import Clock, decision, metrics
from tests.standin.kube_api import StandIn


class FakePrometheus:
    """A reading for every workload; a little different every time, as measured values are."""

    def __init__(self) -> None:
        self.change: dict[str, dict[str, float]] = {}
        self.trouble: Exception | None = None
        self.asked: list[list[Workload]] = []
        self.absent: set[str] = set()

    async def read_many(
        self, workloads: Sequence[Workload], *, deadline_s: float | None = None
    ) -> dict[Workload, NDArray[np.float64]]:
        self.asked.append(list(workloads))
        if self.trouble is not None:
            raise self.trouble
        moved = {"network_io_rate": 1e5 + len(self.asked)}
        return {
            workload: np.array(metrics(**(moved | self.change.get(workload[1], {}))))
            for workload in workloads
            if workload[1] not in self.absent
        }


class FakeKserve:
    """Wants the same for everybody."""

    def __init__(self, action: ScaleAction) -> None:
        self.action = action
        self.trouble: Exception | None = None
        self.asked: list[int] = []
        self.gate: asyncio.Event | None = None
        """Where it is there, no answer comes before it is set."""
        self.make: Callable[..., Decision] = decision

    async def decide(
        self, instances: Sequence[NamedMetrics], *, deadline_s: float | None = None
    ) -> list[Decision]:
        self.asked.append(len(instances))
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        return [self._answer(instance) for instance in instances]

    def _answer(self, instance: NamedMetrics) -> Decision:
        replicas = instance.replicas
        current = replicas.current_replicas or 0
        mask = allowed_actions(
            *(np.array([n or 0], dtype=np.int64) for n in replicas.wire().values())
        )[0]
        allowed = tuple(action for action in ScaleAction if mask[action])
        action = self.action if self.action in allowed else ScaleAction.NO_ACTION
        return self.make(action, current, allowed_actions=allowed)


class Rig:
    """Everything around one controller."""

    def __init__(self, cluster: StandIn, api: KubeApi, store: Path | None = None, **parts: Any):
        self.cluster = cluster
        self.clock = Clock()
        self.set_by_s = 0.0
        """How far somebody set the clock on the wall."""
        self.leads = True
        self.prometheus = FakePrometheus()
        self.kserve = {
            Arm.STABLE: FakeKserve(ScaleAction.SCALE_UP_1),
            Arm.CANARY: FakeKserve(ScaleAction.NO_ACTION),
        }
        self.metrics = OperatorMetrics(CollectorRegistry())
        self.fleet = Fleet(
            removed=lambda entry: self.metrics.saw_removal(entry.policy) if entry.policy else None
        )
        self.store = ExperienceStore(store) if store else None
        arms = parts.pop("arms", (Arm.STABLE,))
        chains = {
            arm: DecisionChain(FallbackSettings(), clock=self.clock, kserve=self.kserve[arm])
            for arm in arms
        }
        self.controller = Controller(
            Parts(
                scaler=Scaler(api),
                prometheus=self.prometheus,
                chains=chains,
                publisher=Publisher(api, self.fleet, clock=self.clock, now=self.now),
                recorder=Recorder(self.store, self.metrics, NO_FEATURES),
                metrics=self.metrics,
                clock=self.clock,
                now=self.now,
                is_leader=lambda: self.leads,
                **parts,
            ),
            self.fleet,
        )
        self.controller.writers = {}

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock.now + self.set_by_s)

    def add(self, name: str = "web", replicas: int = 4, **spec: Any) -> None:
        """A Deployment and its policy, as the watch brings it."""
        self.cluster.deployment(name, replicas)
        self.apply(name, **({"mode": "act"} | spec))

    def apply(self, name: str, **spec: Any) -> None:
        self.fleet.put(self.cluster.policy(name, **spec), self.clock())

    async def interval(self, seconds: float = 15.0) -> None:
        """Everybody's turn once."""
        self.clock.now += seconds
        self.controller.tick()
        await self.controller.drain()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a fact, at most five seconds."""
        async with asyncio.timeout(5.0):
            while not holds():  # noqa: ASYNC110 - the fact is in another program's state
                await asyncio.sleep(0.001)

    def sample(self, metric: str, /, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, labels)

    def records(self) -> list[Any]:
        assert self.store is not None
        return list(self.store.read(Range(1, 2**62)))
