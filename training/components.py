"""Between the pipeline's components and the steps: parameters as KFP has them to typed values.

KFP knows numbers, texts, lists and objects; here they become folders, budgets and clients, and what
a step measured is pushed.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from model_store.store import open_store
from nimbusguard.client.prometheus import PrometheusSettings
from nimbusguard.contract.errors import InvalidRequest
from training import steps
from training.candidate import MODEL_NAME
from training.collect import CollectPlan, collect
from training.range_query import RangeClient, span_before, workload_named
from training.telemetry import MODEL_ACCURACY, PIPELINE_RUNS, TRAINING_DURATION, Pushgateway

JOB: Final = "nimbusguard-pipeline"
_STEP_S: Final = 15
_DEADLINE_S: Final = 60.0
_CANARY_KINDS: Final = ("alias", "graph", "traffic")


def run_collect(
    out: str,
    *,
    as_of: str,
    prometheus: str,
    hours: float,
    workloads: Sequence[str],
    experience: str,
    work: str,
) -> dict[str, Any]:
    """Collect into the work folder, where a killed collection goes on, and hand a copy over."""
    plan = CollectPlan(
        span=span_before(float(as_of), hours, _STEP_S),
        workloads=tuple(workload_named(text) for text in workloads),
        experience=experience or None,
    )
    settings = PrometheusSettings(endpoint=prometheus, deadline_s=_DEADLINE_S)
    with _kept(work, "data") as folder, RangeClient(settings) as client:
        manifest = collect(folder, client, plan)
        shutil.copytree(folder, out, dirs_exist_ok=True)
    return manifest


def run_train(
    prepared: str,
    out: str,
    *,
    seed: int,
    settings: Mapping[str, Any],
    calibration_decisions: int,
    work: str,
    pushgateway: str,
) -> float:
    """Train one seed and push how long it took."""
    budget = steps.Budget(settings=settings, calibration_decisions=calibration_decisions)
    with _kept(work, "training", lock=f"seed-{seed}") as folder:
        seconds = steps.train_one(Path(prepared), Path(out), seed, budget, work=folder)
    Pushgateway(pushgateway).gauge(TRAINING_DURATION, seconds, job=JOB, seed=str(seed))
    return seconds


def run_evaluate(
    prepared: str,
    seeds: Mapping[int, str],
    out: str,
    *,
    settings: Mapping[str, Any],
    calibration_decisions: int,
    evaluation_decisions: int,
    families: Sequence[str],
    pushgateway: str,
    report: str,
    metrics: str,
) -> dict[str, Any]:
    """Evaluate, hand the report over, push the accuracy."""
    budget = steps.Budget(
        settings=settings,
        calibration_decisions=calibration_decisions,
        evaluation_decisions=evaluation_decisions,
    )
    folders = {seed: Path(path) for seed, path in seeds.items()}
    figures = steps.evaluate_run(Path(prepared), folders, Path(out), budget, families)
    shutil.copyfile(Path(out) / "report.html", report)
    # Metrics are KFP's own; a file beside them is what its cache looks for.
    Path(metrics).write_bytes(orjson.dumps(figures))
    Pushgateway(pushgateway).gauge(MODEL_ACCURACY, figures["accuracy"], job=JOB, model=MODEL_NAME)
    return figures


def run_publish(
    candidate: str, verdict: str, *, store: str, run_id: str, model_registry: str, work: str
) -> str:
    """Publish once, and register the version if there is a registry."""
    opened = open_store(store)
    with _kept(work, "publish"):
        version = steps.publish_run(
            Path(candidate),
            Path(verdict),
            opened,
            run_id=run_id,
            now=datetime.now(tz=UTC),  # noqa: TID251 - the edge, where the clock is read once
        )
    if model_registry:
        from training.registry import register

        register(opened, version, model_registry)
    return version


def run_canary(version: str, *, store: str, canary: str, percent: int) -> str:
    """Point the alias to the version; with `graph` or `traffic` give it a share of the requests."""
    if canary not in _CANARY_KINDS:
        message = f"canary: expected one of {_CANARY_KINDS}, got {canary!r}"
        raise InvalidRequest(message)
    open_store(store).promote(MODEL_NAME, "canary", version)
    if canary != "alias":
        from nimbusguard.canary.kubernetes import KubernetesCluster
        from nimbusguard.canary.operations import Names, Operations
        from nimbusguard.canary.plan import Kind

        cluster = KubernetesCluster("nimbusguard-serving")
        operations = Operations(cluster, Kind(canary), Names(), dry_run=False, show=lambda _: None)
        operations.start(version, percent)
    return version


def run_close(state: str, *, pushgateway: str) -> None:
    """Count the run by how it ended."""
    Pushgateway(pushgateway).count(PIPELINE_RUNS, job=JOB, outcome=state.lower())


@contextmanager
def _kept(work: str, name: str, *, lock: str = "lock") -> Iterator[Path]:
    """A folder that outlives the step if there is a work folder, else one for the step alone.

    One process at a time: a step may outlive the pipeline that was killed around it, and is waited
    for by its successor, which then finds the work done.
    """
    if not work:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / name
        return
    place = Path(work) / name
    place.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{name}.{lock}").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield place
