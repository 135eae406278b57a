"""The client, the chain and the validation against the real transformer and predictor."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_store.metadata import ONNX_FILE
from model_store.packaged import packaged_store
from nimbusguard.client import (
    AsyncClient,
    Client,
    ClientSettings,
    DecisionChain,
    Endpoint,
    FallbackSettings,
    LocalModel,
    ModelIdentity,
    NamedMetrics,
    Observation,
    PrometheusAnswer,
    RawVector,
    ReplicaBounds,
    Source,
    Workload,
    WorkloadReference,
)
from nimbusguard.client.breaker import BreakerSettings
from nimbusguard.client.validation import ModelValidator, ValidationSettings
from nimbusguard.contract.errors import (
    InvalidRequest,
    NotFound,
    RequestTooLarge,
    Unavailable,
)
from nimbusguard.contract.features import FEATURES, MAXIMUM, MINIMUM, NAMES
from tests.client.harness import BUSY, seen

pytestmark = pytest.mark.service

READY_WITHIN_S = 60.0


class Servers:
    """A transformer and its predictor on free loopback ports."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._ports = _free_ports(4)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def settings(self) -> ClientSettings:
        return ClientSettings(endpoint=Endpoint(base_url=f"http://127.0.0.1:{self._ports[0]}"))

    def start(self, name: str) -> None:
        http, grpc = self._ports[:2] if name == "transformer" else self._ports[2:]
        flags = [f"--http_port={http}", f"--grpc_port={grpc}", "--model_name=nimbusguard-dqn"]
        if name == "transformer":
            flags += [f"--predictor_host=127.0.0.1:{self._ports[2]}", "--predictor_protocol=v2"]
        with (self._logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", name, *flags],
                env=os.environ | {"NIMBUSGUARD_HOST": "127.0.0.1"},
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def until_ready(self, *, ready: bool = True) -> None:
        ends = time.monotonic() + READY_WITHIN_S
        with Client(self.settings) as client:
            while client.ready() is not ready:
                assert time.monotonic() < ends, (self._logs / "transformer.log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    running = Servers(tmp_path_factory.mktemp("logs"))
    try:
        running.start("predictor")
        running.start("transformer")
        running.until_ready()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def packaged() -> LocalModel:
    return load("production")


def load(version: str) -> LocalModel:
    verified = packaged_store().verify("nimbusguard-dqn", version)
    identity = ModelIdentity(
        name=verified.metadata.name,
        version=verified.metadata.version,
        fingerprint=verified.metadata.fingerprint,
    )
    return LocalModel.from_onnx(verified.files[ONNX_FILE], identity)


def prometheus_answer(metrics: dict[str, float]) -> PrometheusAnswer:
    result = [
        {"metric": {"__name__": f"nimbusguard:{name}"}, "value": [1.0, str(value)]}
        for name, value in metrics.items()
    ]
    answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
    return PrometheusAnswer(answer=answer, replicas=ReplicaBounds(current_replicas=4))


def test_the_kinds_of_instance_give_one_decision(servers: Servers, packaged: LocalModel) -> None:
    """Named, raw and as Prometheus answers: the same metrics, the same decision."""
    with Client(servers.settings) as client:
        named, raw, answered = client.decide(
            [
                NamedMetrics(metrics=BUSY),
                RawVector(values=[BUSY[name] for name in NAMES]),
                prometheus_answer(BUSY),
            ]
        )

    for other in (raw, answered):
        assert other.q_values == pytest.approx(named.q_values, abs=1e-5)  # by place in the batch
        assert replace(other, q_values=named.q_values, q_margin=named.q_margin) == named
    assert (named.model_name, named.model_version) == (
        packaged.identity.name,
        packaged.identity.version,
    )


def test_a_workload_without_prometheus_is_unavailable(servers: Servers) -> None:
    """Kind 4 needs `PROMETHEUS_ENDPOINT`, which these servers do not have."""
    reference = WorkloadReference(workload=Workload(namespace="shop", deployment="web"))

    with Client(servers.settings) as client, pytest.raises(Unavailable, match="PROMETHEUS"):
        client.decide([reference], deadline_s=0.5)


async def test_the_local_model_answers_as_the_servers_do(
    servers: Servers, packaged: LocalModel
) -> None:
    """Two thousand random workloads: same notes and bounds, Q-values to 1e-4."""
    rng = np.random.default_rng(11)
    values = rng.uniform(MINIMUM - 0.1, MAXIMUM * 1.2, (2_000, len(NAMES)))
    optional = [f.absence.value == "zero" for f in FEATURES]
    values[(rng.random(values.shape) < 0.2) & np.array(optional)] = np.nan
    observations = [
        Observation(
            values=tuple(row.tolist()),
            current_replicas=int(rng.integers(1, 60)),
            min_replicas=int(low := rng.integers(0, 10)),
            max_replicas=int(rng.integers(low, 60)),
        )
        for row in values
    ]

    local = packaged.decide(observations)
    async with AsyncClient(servers.settings) as client:
        remote = await client.decide([one.instance() for one in observations])

    for ours, theirs in zip(local, remote, strict=True):
        assert ours.q_values == pytest.approx(theirs.q_values, abs=1e-4)
        assert ours.allowed_actions == theirs.allowed_actions
        assert ours.clipped_features == theirs.clipped_features
        assert ours.imputed_features == theirs.imputed_features
        assert ours.action == theirs.action or theirs.q_margin < 1e-4


async def test_a_mistake_comes_back_in_the_servers_words(servers: Servers) -> None:
    """The instance and the feature are named; nothing is asked twice."""
    good = RawVector(values=[0.5] * 11)
    async with AsyncClient(servers.settings) as client:
        with pytest.raises(InvalidRequest, match=r"instance 1: cpu_utilization: .*absent"):
            await client.decide([good, NamedMetrics(metrics=BUSY | {"cpu_utilization": np.nan})])
        with pytest.raises(InvalidRequest, match=r"instance 0: queue_depth: .*-Inf"):
            await client.decide([NamedMetrics(metrics=BUSY | {"queue_depth": -np.inf})])
        with pytest.raises(InvalidRequest, match="unknown feature"):
            await client.decide([NamedMetrics(metrics=BUSY | {"cpu": 1.0})])
        with pytest.raises(InvalidRequest, match="10000 rows"):
            await client.decide([good] * 10_001)
        with pytest.raises(RequestTooLarge):
            await client.decide([prometheus_answer(BUSY | {"x" * 9_000_000: 1.0})])
        assert len(await client.decide([good])) == 1


def test_an_unknown_model_is_not_found(servers: Servers) -> None:
    """The path names the model."""
    endpoint = Endpoint(base_url=servers.settings.endpoint.base_url, model="other")

    with Client(ClientSettings(endpoint=endpoint)) as client:
        with pytest.raises(NotFound, match="other"):
            client.decide([RawVector(values=[0.5] * 11)])
        assert client.ready() is False


def test_the_servers_describe_themselves(servers: Servers) -> None:
    """Names and shapes as the contract has them."""
    with Client(servers.settings) as client:
        metadata = client.metadata()

    assert metadata.name == "nimbusguard-dqn"
    assert metadata.inputs[0].name == "raw_metrics"
    assert metadata.inputs[0].shape == (-1, 11)
    assert {"action_index", "target_replicas", "q_values"} <= {t.name for t in metadata.outputs}


async def test_validation_passes_for_the_packaged_model(servers: Servers) -> None:
    """Ready, fingerprint, version and recomputed Q-values, all of them."""
    async with AsyncClient(servers.settings) as client:
        validator = ModelValidator(
            ValidationSettings(), served=client, load=load, clock=time.perf_counter
        )
        report = await validator.validate()

    assert report.failures == []
    assert {check.outcome.value for check in report.checks.values()} == {"passed"}


async def test_kserve_dies_and_comes_back_and_every_question_is_answered(
    servers: Servers, packaged: LocalModel
) -> None:
    """The predictor is killed under the chain: the local model answers, then KServe again."""
    async with AsyncClient(servers.settings) as client:
        chain = DecisionChain(
            FallbackSettings(deadline_s=2.0, breaker=BreakerSettings(cool_down_s=1.0)),
            clock=time.perf_counter,
            kserve=client,
            local_model=lambda: packaged,
        )
        (before,) = await chain.decide([seen()])

        servers.kill("predictor")
        during, slowest_s = [], 0.0
        for _ in range(5):
            started = time.perf_counter()
            during += await chain.decide([seen()])
            slowest_s = max(slowest_s, time.perf_counter() - started)
        servers.start("predictor")
        await asyncio.to_thread(servers.until_ready)
        while (after := (await chain.decide([seen()]))[0]).source is not Source.KSERVE:
            assert time.perf_counter() < chain.breaker.since_s + 2.0
            await asyncio.sleep(0.02)

    assert before.source is Source.KSERVE
    assert {answer.source for answer in during} == {Source.LOCAL_MODEL}
    assert slowest_s < 2.0
    assert {answer.action for answer in during} == {before.action} == {after.action}
