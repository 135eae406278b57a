"""The operator whole: watching, electing, validating, scaling, and what its parts' failures do.

Its neighbours are stand-ins over real HTTP on loopback. Intervals are a second, so that a story of
minutes is told in seconds; nothing else differs from a cluster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from autoscaler.experience import ExperienceStore, Range
from autoscaler.kube import ClusterAccess
from autoscaler.run import Operator
from autoscaler.settings import OperatorSettings
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.settings import Settings
from tests.autoscaler.harness import BUSY
from tests.standin.kserve import StandInKserve, packaged_model
from tests.standin.kube_api import Fault, StandIn
from tests.standin.prometheus import StandInPrometheus

pytestmark = pytest.mark.service
INTERVAL_S = 1.0
CALLS = 12
"""That an operator makes before the API server is well again."""


class World:
    """A cluster, its Prometheus and KServe, and operators among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = StandIn()
        self.change: dict[str, dict[str, float] | None] = {}
        self.steady = False
        self._reads = 0
        self.prometheus = StandInPrometheus(self.metrics)
        self.kserve = StandInKserve(packaged_model())
        self.port = 0

    def metrics(self, namespace: str, name: str) -> dict[str, float] | None:
        """Pods as desired, load as set, and a little noise."""
        change = self.change.get(name, {})
        if change is None:
            return None
        if not self.steady:
            self._reads += 1
        pods = {"pod_count": float(self.cluster.replicas(name, namespace))}
        noise = {"network_io_rate": 1e5 + self._reads}
        return BUSY | pods | noise | change

    def add(self, name: str = "web", replicas: int = 4, **spec: Any) -> None:
        self.cluster.deployment(name, replicas)
        defaults = {"mode": "act", "intervalSeconds": INTERVAL_S}
        self.cluster.policy(name, **(defaults | spec))

    @asynccontextmanager
    async def operator(self, identity: str = "one", **own: Any) -> AsyncIterator[Operator]:
        """A running operator, stopped at the end."""
        shared = Settings(
            kserve_endpoint=f"{self.kserve.url}/v1/models/nimbusguard-dqn:predict",
            prometheus_endpoint=self.prometheus.url,
            model_validation_interval=own.pop("validation_interval", 300.0),
            fallback_to_local=own.pop("fallback_to_local", True),
        )
        settings = OperatorSettings(listen="127.0.0.1", port=0, identity=identity, **own)
        access = ClusterAccess(server=self.cluster.url)
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            operator = Operator(shared, settings, access, stack)
            running = asyncio.create_task(operator.run(stop, listening=self._listen))
            try:
                yield operator
            finally:
                stop.set()
                assert await running is True

    def _listen(self, port: int) -> None:
        self.port = port

    async def probe(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}")

    async def until(self, what: str, holds: Callable[[], bool], within_s: float = 10.0) -> float:
        """Wait for a fact; how long it took."""
        started = time.monotonic()
        while not holds():
            assert time.monotonic() - started < within_s, f"not within {within_s:g} s: {what}"
            await asyncio.sleep(0.01)
        return time.monotonic() - started

    async def turns(self, operator: Operator, count: int) -> None:
        """Wait until it has evaluated so many more times."""
        name = "nimbusguard_operator_evaluation_seconds_count"
        before = operator.registry.get_sample_value(name) or 0.0

        def had() -> bool:
            return (operator.registry.get_sample_value(name) or 0.0) >= before + count

        await self.until(f"{count} evaluations", had, 10.0 + 2 * count * INTERVAL_S)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.cluster.start()
    await made.prometheus.start()
    await made.kserve.start()
    try:
        yield made
    finally:
        await made.kserve.stop()
        await made.prometheus.stop()
        await made.cluster.stop()


def source(world: World, name: str = "web") -> str:
    return str(world.cluster.status(name).get("source", ""))


async def test_a_policy_is_seen_decided_and_carried_out(world: World) -> None:
    """From the watch to the replicas; a later policy, a change and a deletion are seen as well."""
    world.change["web"] = {"cpu_utilization": 0.95}
    world.add()

    async with world.operator() as operator:
        await world.until("scaled up", lambda: world.cluster.replicas("web") > 4)
        await world.until("by KServe", lambda: source(world) == "kserve")
        world.add("later", mode="shadow")
        await world.until("second policy", lambda: source(world, "later") == "kserve")
        assert world.cluster.replicas("later") == 4
        world.cluster.policy("later", mode="advise", intervalSeconds=INTERVAL_S)
        await world.until(
            "changed mode",
            lambda: world.cluster.condition("later", "Acting")["reason"] == "Advise",
        )
        world.cluster.delete("nimbusguard.io", "scalingpolicies", "shop", "later")
        before = world.cluster.replicas("later")
        await world.turns(operator, 2)
        page = (await world.probe("/metrics")).text

    assert world.cluster.replicas("later") == before
    assert 'nimbusguard_desired_replicas{kind="Deployment",name="web"' in page
    assert 'name="later"' not in page


async def test_the_probes_tell_how_it_is(world: World) -> None:
    """Alive while it turns, ready when it knows who else scales; the leader is a metric."""
    async with world.operator() as operator:
        await world.until("ready", lambda: operator.controller.writers is not None)
        assert (await world.probe("/healthz")).json() == {"ok": True}
        assert (await world.probe("/readyz")).status_code == 200
        world.add()
        await world.until("decided", lambda: bool(source(world)))
        check = {"arm": "stable", "check": "q_values"}
        await world.until(
            "validated",
            lambda: operator.registry.get_sample_value("nimbusguard_model_validation", check) == 1,
        )
        page = (await world.probe("/metrics")).text
        operator.controller.ticked_s -= 60.0
        stalled = operator._alive()

    assert "nimbusguard_operator_is_leader 1.0" in page
    assert stalled is False


async def test_kserve_dies_and_the_local_model_answers_within_an_interval(world: World) -> None:
    """And KServe again within two of its return; the breaker's cool-down comes in between."""
    world.add()

    async with world.operator():
        await world.until("KServe decides", lambda: source(world) == "kserve")
        await world.kserve.stop()
        fell_s = await world.until("fallback", lambda: source(world) == "local_model")
        await world.kserve.start()
        back_s = await world.until("KServe again", lambda: source(world) == "kserve", 20.0)

    assert fell_s < 2 * INTERVAL_S
    assert (
        back_s < 10.0 + 3 * INTERVAL_S
    )  # the cool-down is 10 s, two thirds of an interval of 15 s


@pytest.mark.parametrize(
    "change",
    [
        lambda document: "<html>gateway</html>",
        lambda document: {"predictions": []},
        lambda document: {
            "predictions": [row | {"q_values": [None] * 5} for row in document["predictions"]]
        },
        lambda document: {
            "predictions": [row | {"fingerprint": "sha256:0"} for row in document["predictions"]]
        },
        lambda document: {
            "predictions": [
                row | {"target_replicas": 1, "replica_change": -3}
                for row in document["predictions"]
            ]
        },
        lambda document: {
            "predictions": [row | {"model_version": "99"} for row in document["predictions"]]
        },
    ],
    ids=["html", "empty", "null", "foreign", "inconsistent", "unknown-version"],
)
async def test_garbage_from_kserve_is_not_followed(
    world: World, change: Callable[[dict[str, Any]], object]
) -> None:
    """The local model answers from the first decision on, and KServe once it is sane."""
    world.kserve.change = change
    world.add()

    async with world.operator():
        await world.until("fallback", lambda: source(world) == "local_model")
        world.kserve.change = lambda document: document
        await world.until("KServe", lambda: source(world) == "kserve", 25.0)


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_failing_statuses_of_kserve_fall_back(world: World, status: int) -> None:
    """Whatever it says but 200."""
    world.add()

    async with world.operator():
        await world.until("KServe decides", lambda: source(world) == "kserve")
        world.kserve.status = status
        await world.until("fallback", lambda: source(world) == "local_model")


async def test_a_kserve_that_hangs_is_left_before_the_deadline(world: World) -> None:
    """Decisions go on coming, from the local model."""
    world.add()

    async with world.operator():
        await world.until("KServe decides", lambda: source(world) == "kserve")
        world.kserve.hang = asyncio.Event()
        await world.until("fallback", lambda: source(world) == "local_model", 12.0)
        world.kserve.hang.set()


async def test_another_network_under_a_known_version_is_refused(world: World) -> None:
    """Its Q-values are not those of the published file."""
    world.kserve.change = lambda document: {
        "predictions": [
            row | {"q_values": [value + 0.01 for value in row["q_values"]]}
            for row in document["predictions"]
        ]
    }
    world.add()

    async with world.operator():
        await world.until("fallback", lambda: source(world) == "local_model")
        told = world.cluster.condition("web", "Served")["message"]
        await world.until(
            "refused",
            lambda: "failed validation" in world.cluster.condition("web", "Served")["message"],
            70.0,
        )
        page = (await world.probe("/metrics")).text

    assert told
    assert 'nimbusguard_model_validation{arm="stable",check="q_values"} 0.0' in page


async def test_without_local_fallback_the_rule_answers(world: World) -> None:
    """`FALLBACK_TO_LOCAL=false`."""
    await world.kserve.stop()
    world.add()

    async with world.operator(fallback_to_local=False):
        await world.until("rule", lambda: source(world) == "hpa_rule")


@pytest.mark.parametrize("trouble", ["down", "silent", "zeroed", "nan", "half", "frozen"])
async def test_no_replica_is_removed_on_bad_metrics(world: World, trouble: str) -> None:
    """Down, silent, zeroed, NaN, half of the series, frozen; and it recovers by itself."""
    idle = {"cpu_utilization": 0.02, "request_rate": 1.0}
    world.change["web"] = {}
    world.add(replicas=8)
    lies: dict[str, dict[str, float] | None] = {
        "silent": None,
        "zeroed": dict.fromkeys(BUSY, 0.0),
        "nan": dict.fromkeys(BUSY, float("nan")),
        "half": idle | {"memory_utilization": float("nan"), "node_utilization": float("nan")},
    }

    async with world.operator() as operator:
        await world.until("decided", lambda: bool(source(world)))
        before = world.cluster.replicas("web")
        if trouble == "down":
            world.prometheus.status = 503
        elif trouble == "frozen":
            world.change["web"], world.steady = idle, True
        else:
            world.change["web"] = lies[trouble]
        await world.turns(operator, 5)
        during = world.cluster.replicas("web")
        trusted = world.cluster.condition("web", "MetricsTrusted")["status"]
        world.prometheus.status, world.change["web"], world.steady = 200, {}, False
        await world.until(
            "trusted again",
            lambda: world.cluster.condition("web", "MetricsTrusted")["status"] == "True",
        )

    assert during >= before
    assert trusted == "False" or trouble == "frozen"


@pytest.mark.parametrize("status", [409, 429, 500])
async def test_an_api_server_that_fails_is_tried_again(world: World, status: int) -> None:
    """For replicas, leases and statuses alike; then everything goes on."""
    world.change["web"] = {"cpu_utilization": 0.95}
    world.add()
    fault = Fault(lambda call: call.verb != "watch" and len(world.cluster.calls) % 3 > 0, status)
    world.cluster.faults.append(fault)

    async with world.operator():
        await world.until("calls were made", lambda: len(world.cluster.calls) >= CALLS)
        world.cluster.faults.clear()
        await world.until("scaled", lambda: world.cluster.replicas("web") > 4, 30.0)


async def test_a_dropped_watch_misses_nothing(world: World) -> None:
    """A policy that comes after the break is seen."""
    world.add()

    async with world.operator():
        await world.until("decided", lambda: bool(source(world)))
        for number in range(3):
            world.cluster.drop_watches()
            world.add(f"late{number}")
            await world.until("seen", lambda n=number: source(world, f"late{n}") == "kserve", 15.0)


async def test_of_two_operators_one_acts_and_the_other_takes_over(world: World) -> None:
    """Leadership is given back at the end; no interval has two writers."""
    world.add()

    async with world.operator("two") as first:
        await world.until("first leads", lambda: bool(source(world)))
        async with world.operator("one"):
            await world.turns(first, 2)
            lease = world.cluster.objects["coordination.k8s.io", "leases"]
            holder = lease["nimbusguard", "nimbusguard-operator"]["spec"]["holderIdentity"]
    after = lease["nimbusguard", "nimbusguard-operator"]["spec"]["holderIdentity"]
    calls = len(world.cluster.calls)
    async with world.operator("three"):
        await world.until(
            "third acts",
            lambda: any(
                call.resource == "deployments/scale" for call in world.cluster.calls[calls:]
            ),
            5.0,
        )

    assert holder == "two"
    assert after == ""


async def test_everything_is_recorded(world: World) -> None:
    """Each decision once, each but the last with its outcome."""
    world.add()
    path = world.folder / "experience.db"

    async with world.operator(experience_store=path) as operator:
        await world.turns(operator, 4)

    with ExperienceStore(path) as store:
        rows = list(store.read(Range(1, 2**62)))
    assert len(rows) >= 3
    assert all(outcome is not None for _, _, outcome in rows[:-1])
    assert {decision.source for _, decision, _ in rows} <= {"kserve", "local_model"}


async def test_a_canary_endpoint_is_asked_for_its_share(world: World) -> None:
    """All of the share, at an address of its own."""
    other = StandInKserve(packaged_model())
    await other.start()
    world.add(canaryShare=1.0)
    try:
        async with world.operator(canary_endpoint=other.url):
            await world.until("canary asked", lambda: 1 in other.asked)
            await world.until("by KServe", lambda: source(world) == "kserve")
    finally:
        await other.stop()

    assert 1 not in world.kserve.asked


async def test_without_prometheus_it_does_not_start(world: World) -> None:
    """The setting is named."""
    async with AsyncExitStack() as stack:
        with pytest.raises(InvalidRequest, match="PROMETHEUS_ENDPOINT: expected a URL"):
            Operator(Settings(), OperatorSettings(), ClusterAccess(server=world.cluster.url), stack)
