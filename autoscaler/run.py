"""The operator put together from its settings, and its rounds.

Each round is a loop of its own, so that a slow model store or an unreachable API server delays
nothing else. A round that fails says so and comes again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry

from autoscaler.arms import Arm
from autoscaler.console import OperatorSource
from autoscaler.controller import Controller, Parts
from autoscaler.evidence import EvidenceSettings
from autoscaler.experience import ExperienceStore
from autoscaler.fleet import Entry, Fleet
from autoscaler.housekeeping import keep_house
from autoscaler.kube import ClusterAccess, KubeApi
from autoscaler.lease import Election, LeaseSettings
from autoscaler.local_models import LocalModels
from autoscaler.loop import LoopSettings
from autoscaler.metrics import OperatorMetrics
from autoscaler.publish import Publisher
from autoscaler.recording import Recorder
from autoscaler.scale import Scaler
from autoscaler.settings import OperatorSettings
from autoscaler.tracing import TracedClient
from autoscaler.watch import registry_of, watch
from autoscaler.web import serve
from autoscaler.writers import read_writers
from model_store.packaged import packaged_store
from model_store.store import open_store
from nimbusguard.client.client import AsyncClient
from nimbusguard.client.endpoint import Endpoint
from nimbusguard.client.exchange import ClientSettings
from nimbusguard.client.fallback import DecisionChain, FallbackSettings
from nimbusguard.client.prometheus import AsyncPrometheusClient, PrometheusSettings
from nimbusguard.client.validation import ModelValidator, ValidationSettings
from nimbusguard.console.api import ConsoleApi
from nimbusguard.console.comparison import NEEDED_S
from nimbusguard.console.journal import Journal
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError
from nimbusguard.contract.normalization import absent_as_zero_mask
from nimbusguard.settings import Settings
from nimbusguard.telemetry.spans import Tracer

_LOG: Final = logging.getLogger(__name__)
TICK_S: Final = 0.25
ELECTION_S: Final = 2.0
VALIDATION_S: Final = 1.0
"""How often it is asked whether a validation is due."""
FALLBACK_S: Final = 60.0
WRITERS_S: Final = 30.0
HOUSEKEEPING_S: Final = 3600.0
RETRY_S: Final = 2.0
"""Seconds until a round that failed comes again; an hourly one waits a minute."""
STALLED_S: Final = 30.0
"""Seconds without a tick after which the process is not alive."""


class Operator:
    """Everything that one process holds; made, run once, and closed."""

    def __init__(
        self,
        shared: Settings,
        own: OperatorSettings,
        access: ClusterAccess,
        stack: AsyncExitStack,
        tracer: Tracer | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            shared: Settings of several parts: KServe, Prometheus, validation.
            own: Settings of the operator alone.
            access: The API server.
            stack: Closes what was opened.
            tracer: Records sampled evaluations; None where nothing is traced.

        Raises:
            InvalidRequest: There is no Prometheus to ask.
            Unavailable: The experience store cannot be opened.
        """
        if shared.prometheus_endpoint is None:
            message = "PROMETHEUS_ENDPOINT: expected a URL like http://prometheus:9090, got none"
            raise InvalidRequest(message)
        self._own = own
        self._stack = stack
        self._clock = time.monotonic
        self.registry = CollectorRegistry()
        self._metrics = OperatorMetrics(self.registry)
        self._fleet = Fleet(removed=self._forget)
        self._access = access
        self._api = KubeApi(access)
        stack.push_async_callback(self._api.aclose)
        self._election = Election(_lease(own), self._api, clock=self._clock, now=_now)
        store = open_store(own.model_store) if own.model_store else packaged_store()
        self._models = LocalModels(store, own.model_name)
        self._experience = ExperienceStore(own.experience_store) if own.experience_store else None
        if self._experience is not None:
            stack.callback(self._experience.close)
        self._source = OperatorSource(
            self._fleet,
            Journal(span_s=NEEDED_S),
            self._experience,
            Endpoint.parse(shared.kserve_endpoint).explain_url,
            now=_now,
            is_leader=lambda: self._election.is_leader,
        )
        stack.push_async_callback(self._source.aclose)
        prometheus = AsyncPrometheusClient(PrometheusSettings(endpoint=shared.prometheus_endpoint))
        stack.push_async_callback(prometheus.aclose)
        self._validators: dict[Arm, ModelValidator] = {}
        chains = {Arm.STABLE: self._chain(Arm.STABLE, shared, shared.kserve_endpoint)}
        if own.canary_endpoint is not None:
            chains[Arm.CANARY] = self._chain(Arm.CANARY, shared, own.canary_endpoint)
        evidence = EvidenceSettings(absent_as_zero=own.absent_as_zero)
        self.controller = Controller(
            Parts(
                scaler=Scaler(self._api),
                prometheus=prometheus,
                chains=chains,
                publisher=Publisher(self._api, self._fleet, clock=self._clock, now=_now),
                recorder=Recorder(
                    self._experience,
                    self._metrics,
                    absent_as_zero_mask(own.absent_as_zero),
                    self._source.saw,
                ),
                metrics=self._metrics,
                clock=self._clock,
                now=_now,
                is_leader=lambda: self._election.is_leader,
                tracer=tracer,
                settings=LoopSettings(evidence=evidence),
                shadow_canary=own.shadow_canary,
            ),
            self._fleet,
        )

    async def run(self, stop: asyncio.Event, *, listening: Callable[[int], None]) -> bool:
        """Work until stopped.

        Args:
            stop: Ends it; evaluations under way are finished first.
            listening: Hears the port of the probes.

        Returns:
            Whether it ended because it was asked to.
        """
        runner, port = await serve(
            self._own.listen,
            self._own.port,
            self.registry,
            alive=self._alive,
            ready=self._ready,
            console=ConsoleApi(self._source),
        )
        self._stack.push_async_callback(runner.cleanup)
        listening(port)
        watching = threading.Event()
        loop = asyncio.get_running_loop()

        def seen(kind: str, body: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(self._seen, kind, body)

        watcher = asyncio.create_task(
            watch(registry_of(seen, self._access), self._own.namespaces, stop=watching)
        )
        rounds = [
            asyncio.create_task(_every(period_s, action, name))
            for name, period_s, action in (
                ("tick", TICK_S, self._tick),
                ("election", ELECTION_S, self._election.step),
                ("fallback", FALLBACK_S, self._load_fallback),
                ("validation", VALIDATION_S, self._validate),
                ("writers", WRITERS_S, self._list_writers),
                ("housekeeping", HOUSEKEEPING_S, self._keep_house),
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, watcher}, return_when=asyncio.FIRST_COMPLETED)
        asked = stopped.done()
        for task in (*rounds, stopped):
            task.cancel()
        await asyncio.gather(*rounds, stopped, return_exceptions=True)
        await self.controller.drain()
        await _once(self._election.resign, "resign")
        watching.set()
        await watcher
        return asked

    def _chain(self, arm: Arm, shared: Settings, endpoint: str) -> DecisionChain:
        """A chain before one transformer, with a validation of its own."""
        client = AsyncClient(ClientSettings(endpoint=Endpoint.parse(endpoint)))
        self._stack.push_async_callback(client.aclose)
        validator = ModelValidator(
            ValidationSettings(interval_s=shared.model_validation_interval),
            served=client,
            load=self._models.load,
            clock=self._clock,
        )
        self._validators[arm] = validator
        return DecisionChain(
            FallbackSettings(absent_as_zero=self._own.absent_as_zero),
            clock=self._clock,
            kserve=TracedClient(client),
            local_model=self._models.current if shared.fallback_to_local else lambda: None,
            refuse=validator.refuse,
        )

    def _seen(self, kind: str, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        if kind == "DELETED":
            self._fleet.remove(metadata["namespace"], metadata["name"], metadata["uid"])
        else:
            self._fleet.put(body, self._clock())

    def _forget(self, entry: Entry) -> None:
        self._source.journal.forget(f"{entry.namespace}/{entry.name}")
        if entry.policy is not None:
            self._metrics.saw_removal(entry.policy)

    async def _tick(self) -> None:
        self.controller.tick()

    async def _load_fallback(self) -> None:
        if self._models.current() is None:
            await asyncio.to_thread(self._models.load, self._own.model_version)

    async def _validate(self) -> None:
        """Check what KServe serves, where that is due."""
        for arm, validator in self._validators.items():
            if not validator.due():
                continue
            report = await validator.validate()
            self._metrics.saw_validation(arm, report)
            if report.failures:
                extra = {"arm": arm.value, "failures": report.failures}
                _LOG.warning("validation failed", extra=extra)
            elif report.version is not None and arm is Arm.STABLE:
                self._models.prefer(report.version)

    async def _list_writers(self) -> None:
        self.controller.writers = await read_writers(self._api, self._own.namespaces)

    async def _keep_house(self) -> None:
        if self._experience is not None:
            await asyncio.to_thread(keep_house, self._experience, self._own, _now().timestamp())

    def _alive(self) -> bool:
        return self._clock() - self.controller.ticked_s < STALLED_S

    def _ready(self) -> bool:
        return self.controller.writers is not None


async def _every(period_s: float, action: Callable[[], Awaitable[None]], name: str) -> None:
    """Do something again and again, whatever it costs or raises; sooner after a failure."""
    loop = asyncio.get_running_loop()
    turn_s = loop.time()
    while True:
        succeeded = await _once(action, name)
        wait_s = period_s if succeeded else min(period_s, max(RETRY_S, period_s / 60.0))
        turn_s = max(turn_s + wait_s, loop.time())
        await asyncio.sleep(turn_s - loop.time())


async def _once(action: Callable[[], Awaitable[None]], name: str) -> bool:
    """Do something; whether it succeeded."""
    try:
        await action()
    except NimbusGuardError as exc:
        _LOG.warning("round failed", extra={"round": name, "error": str(exc)})
    except Exception:  # noqa: BLE001 - the outermost loop: the next round may succeed
        _LOG.exception("round failed", extra={"round": name})
    else:
        return True
    return False


def _lease(own: OperatorSettings) -> LeaseSettings:
    namespace, _, name = own.lease.partition("/")
    # Two that called themselves the same would both lead.
    identity = own.identity or f"{socket.gethostname()}_{os.getpid()}"
    return LeaseSettings(namespace=namespace, name=name, identity=identity)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the edge: only shown and recorded
