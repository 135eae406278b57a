"""From metrics to a decision on one machine: every part is the real one but the Kubernetes API.

Prometheus with history → pipeline (refused) → pipeline (passed) → published, on trial
  → both versions served → load → judged → promoted → the operator scales with it
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from model_store.packaged import packaged_path
from model_store.store import ModelStore, open_store
from tests.canary.drill import HOP_S, slow_hop
from tests.e2e.exporter import features
from tests.isvc.load import Load, run_together
from tests.live.processes import start, wait_until
from tests.pipelines.gateway import pushgateway
from tests.pipelines.history import (
    NAMESPACE,
    WORKLOAD,
    day,
    number,
    open_metrics,
    prometheus,
)
from tests.pipelines.runs import COMMAND, HOURS, SMOKE_LIMITS, run
from tests.pipelines.runs import command as pipeline_command
from tests.service.processes import Server, running
from tests.standin.kube_api import StandIn

NAME = "nimbusguard-dqn"
SERVING = "nimbusguard-serving"
SMALL = {"epochs": 6, "steps_per_epoch": 240, "lanes": 200}
"""Fifteen seconds of one core: far from what the gate asks for, near enough to the rule that the
policy imitates to be put on trial."""
REQUESTS_A_ROUND, SECONDS_A_ROUND, SHARE, ROUNDS = 2000, 10, 0.25, 4
PODS = 10
OVERLOADED = {
    "cpu_utilization": 0.97, "memory_utilization": 0.4, "network_io_rate": 3e5,
    "request_rate": 300.0, "pod_count": float(PODS), "response_time_p95": 1.2, "error_rate": 0.02,
    "queue_depth": 90.0, "cpu_throttling": 0.4, "memory_pressure": 0.5, "node_utilization": 0.6,
}  # fmt: skip

FIGURES = {
    "runs": 'nimbusguard_pipeline_runs_total{outcome="succeeded"}',
    "failed runs": 'nimbusguard_pipeline_runs_total{outcome="failed"}',
    "training_s": 'nimbusguard_model_training_duration_seconds{seed="1"}',
    "accuracy": f'nimbusguard_model_accuracy{{model="{NAME}"}}',
}
"""What the batch steps pushed, as a dashboard asks for it."""


@dataclass(slots=True, kw_only=True)
class Told:
    """What happened, in this order."""

    shipped: list[str]
    """The versions that the package brings."""
    refused: subprocess.CompletedProcess[str]
    versions_after_refusal: list[str]
    passed: subprocess.CompletedProcess[str]
    version: str
    store: ModelStore
    aliases_before: dict[str, str]
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    promoted: subprocess.CompletedProcess[str] | None = None
    aliases_after: dict[str, str] = field(default_factory=dict)
    replicas: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


def tell(folder: Path) -> Told:
    """Go the whole way once."""
    shutil.copytree(packaged_path(), folder / "store")
    store = open_store(folder / "store")
    with ExitStack() as stack:
        exporter = stack.enter_context(features(OVERLOADED))
        gateway = stack.enter_context(pushgateway(folder / "gateway"))
        history = stack.enter_context(
            prometheus(
                folder / "prometheus",
                open_metrics(day(HOURS)),
                scrape=[
                    _job("features", [exporter, gateway.removeprefix("http://")]),
                    _discovered(folder),
                ],
            )
        )
        told = _train(folder, history.url, store, gateway)
        stable = _served(stack, folder, store, store.resolve(NAME, "production"))
        trial = _served(stack, folder, store, store.resolve(NAME, "canary"))
        _announce(folder, [*stable, *trial])
        told.verdicts = _judged(history.url, stable[1], trial[1], told.version)
        told.promoted = _promoted(folder / "store", told)
        told.aliases_after = store.aliases(NAME)
        serving = _served(stack, folder, store, store.resolve(NAME, "production"))
        told.replicas, told.status = asyncio.run(_operated(folder, history.url, serving[1].url))
        told.figures = {name: _figure(history.url, query) for name, query in FIGURES.items()}
    return told


def _train(folder: Path, url: str, store: ModelStore, gateway: str) -> Told:
    """The gate with its own limits, then more training and limits for a smoke run."""

    def piped(name: str, *parameters: str) -> subprocess.CompletedProcess[str]:
        common = ("seeds=[1]", f"pushgateway={gateway}")
        return run(pipeline_command(folder / name, url, folder / "store", *common, *parameters))

    shipped = store.versions(NAME)
    refused = piped("refused")
    after = store.versions(NAME)
    passed = piped(
        "passed",
        f"settings={json.dumps(SMALL)}",
        "calibration_decisions=240",
        f"gate_limits={json.dumps(SMOKE_LIMITS)}",
    )
    assert passed.returncode == 0, passed.stdout[-3000:] + passed.stderr[-3000:]
    return Told(
        shipped=shipped,
        refused=refused,
        versions_after_refusal=after,
        passed=passed,
        version=store.resolve(NAME, "canary"),
        store=store,
        aliases_before=store.aliases(NAME),
    )


def _served(
    stack: ExitStack, folder: Path, store: ModelStore, version: str
) -> tuple[Server, Server]:
    """Predictor and transformer of a version; the hop takes its time, as in the canary drill."""
    number = sum(1 for _ in folder.glob("predictor-*.log"))
    directory = folder / "store" / NAME / version
    assert store.verify(NAME, version)
    predictor = stack.enter_context(
        running("predictor", folder / f"predictor-{number}.log", f"--model_dir={directory}")
    )
    host = f"--predictor_host=127.0.0.1:{slow_hop(stack, predictor.http_port, HOP_S)}"
    transformer = stack.enter_context(
        running("transformer", folder / f"transformer-{number}.log", host)
    )
    return predictor, transformer


def _judged(url: str, stable: Server, trial: Server, version: str) -> list[dict[str, Any]]:
    """Load and judgement by turns, until the verdict is no longer `hold`."""
    verdicts: list[dict[str, Any]] = []
    asked = 0
    while len(verdicts) < ROUNDS and (not verdicts or verdicts[-1]["verdict"] == "hold"):
        asked += asyncio.run(_ask(stable, trial))
        wait_until("every request in Prometheus", lambda: _scraped(url) >= asked, 30)  # noqa: B023
        done = run(
            [
                str(COMMAND), "canary", "judge", "--version", version, "--prometheus", url,
                "--window", "5m", "--json",
            ]
        )  # fmt: skip
        verdicts.append({"status": done.returncode, **json.loads(done.stdout)})
    return verdicts


async def _ask(stable: Server, trial: Server) -> int:
    """What the workload's history looked like, a quarter of it to the version on trial."""
    rows = np.column_stack(list(day(HOURS).values()))[::7].tolist()
    bodies = tuple(orjson.dumps({"instances": [row]}) for row in rows)
    loads = [
        Load(
            address=("127.0.0.1", server.http_port),
            host="e2e",
            path=f"/v1/models/{NAME}:predict",
            bodies=bodies,
            rate=share * REQUESTS_A_ROUND / SECONDS_A_ROUND,
            connections=8,
        )
        for server, share in ((stable, 1 - SHARE), (trial, SHARE))
    ]
    await run_together(loads, SECONDS_A_ROUND)
    assert not any(load.failures for load in loads)
    return sum(load.sent for load in loads)


def _promoted(store: Path, told: Told) -> subprocess.CompletedProcess[str] | None:
    """Only what was judged fit is promoted."""
    if told.verdicts[-1]["verdict"] != "promote":
        return None
    command = [str(COMMAND), "models", "promote", told.version, "--alias", "production"]
    return run([*command, "--store", str(store)])


async def _operated(folder: Path, url: str, transformer: str) -> tuple[int, dict[str, Any]]:
    """The operator with a workload that is overloaded: its replicas after the first decision."""
    cluster = StandIn()
    await cluster.start()
    cluster.deployment(WORKLOAD, PODS, NAMESPACE)
    cluster.policy(
        WORKLOAD, NAMESPACE, mode="act", intervalSeconds=5.0, replicas={"min": 1, "max": 20}
    )
    operator = await asyncio.to_thread(
        start,
        [sys.executable, "-m", "autoscaler"],
        log=folder / "operator.log",
        environ={
            "KSERVE_ENDPOINT": transformer,
            "PROMETHEUS_ENDPOINT": url,
            "AUTOSCALER_KUBE_API": cluster.url,
            "AUTOSCALER_LISTEN": "127.0.0.1",
            "AUTOSCALER_PORT": "0",
            # Where its own copy of the promoted version comes from: it checks the served one by it.
            "AUTOSCALER_MODEL_STORE": str(folder / "store"),
        },
    )
    try:
        async with asyncio.timeout(60):
            # Polled, because the fact is in another program's state.
            while cluster.status(WORKLOAD).get("targetReplicas", PODS) == PODS:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return cluster.replicas(WORKLOAD, NAMESPACE), cluster.status(WORKLOAD, NAMESPACE)
    finally:
        await asyncio.to_thread(operator.end)
        await cluster.stop()


def _scraped(url: str) -> int:
    labels = '{component="transformer",route="v1_predict"}'
    return int(_figure(url, f"sum(nimbusguard_model_serving_requests_total{labels})"))


def _figure(url: str, query: str) -> float:
    """What Prometheus answers; 0 where nothing was counted."""
    return number(url, query) or 0.0


def _job(name: str, targets: list[str]) -> dict[str, object]:
    return {
        "job_name": name,
        "scrape_interval": "1s",
        "honor_labels": True,
        "static_configs": [{"targets": targets}],
    }


def _discovered(folder: Path) -> dict[str, object]:
    """The servers, told to Prometheus by a file when they have their ports."""
    files = [{"files": [str(folder / "targets.json")], "refresh_interval": "1s"}]
    return {"job_name": "serving", "scrape_interval": "1s", "file_sd_configs": files}


def _announce(folder: Path, servers: list[Server]) -> None:
    targets = [f"127.0.0.1:{server.http_port}" for server in servers]
    aside = folder / "targets.tmp"
    aside.write_text(json.dumps([{"targets": targets, "labels": {"namespace": SERVING}}]))
    aside.rename(folder / "targets.json")
