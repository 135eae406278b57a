"""The pipeline on one machine, against a real Prometheus: refused, passed, killed and gone on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_store.store import open_store
from tests.live.processes import ROOT, wait_until
from tests.pipelines.history import END_S, day, open_metrics, prometheus
from tests.pipelines.runs import (
    HOURS,
    SMOKE_LIMITS,
    command,
    environment,
    executions,
    result,
    run,
)
from training.simulator.settings import TraceSettings

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(
        not TraceSettings.from_environ().folder.is_dir(), reason="the traces are not at hand"
    ),
]
NAME = "nimbusguard-dqn"
ALL = [
    "close-run", "collect", "evaluate", "gate", "open-run", "prepare", "publish", "start-canary",
    "train-0", "train-1",
]  # fmt: skip
LIMITS = f"gate_limits={json.dumps(SMOKE_LIMITS)}"


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with eight hours of a workload; its address."""
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, open_metrics(day(HOURS))) as history:
        yield history.url


def test_an_untrained_network_is_refused_and_nothing_is_published(
    metrics: str, tmp_path: Path
) -> None:
    """The shipped limits: status 3, every condition printed, no version, no canary."""
    store = tmp_path / "store"
    asked = command(tmp_path / "run", metrics, store)

    first = run(asked)
    again = run(asked)

    assert first.returncode == again.returncode == 3, first.stderr
    assert "gate refused, nothing published" in first.stdout
    assert "fails  pod-hours over the rival's" in again.stdout
    assert open_store(store).versions(NAME) == []
    assert executions(tmp_path / "run") == [
        name for name in ALL if name not in {"publish", "start-canary"}
    ]


def test_a_run_that_is_killed_goes_on_without_repeating_a_finished_step(
    metrics: str, tmp_path: Path
) -> None:
    """Killed in the middle of five steps one after the other; one version, whole, on trial."""
    folder, store = tmp_path / "run", tmp_path / "store"
    asked = command(folder, metrics, store, LIMITS)
    begun = (
        "work/data/samples/*/*.parquet",
        "work/training/seed-*/curve.csv",
        "steps/*/evaluate/candidate/plan.json",
        "steps/*/gate/verdict/gate.json",
        f"../store/{NAME}/1/metadata.json",
    )

    for sign in begun:
        kill_when(asked, folder, sign)
    done = run(asked)

    assert done.returncode == 0, done.stderr[-3000:]
    assert f"gate passed, version {result(folder)['version']}" in done.stdout
    assert open_store(store).versions(NAME) == ["1"]
    assert open_store(store).aliases(NAME) == {"canary": "1"}
    open_store(store).verify(NAME, "1")
    # Collect, gate and publish are short: the kill may fall between their end and its record.
    once = {"prepare", "train-0", "train-1", "evaluate", "start-canary"}
    assert {name: executions(folder).count(name) for name in once} == dict.fromkeys(once, 1)


def kill_when(asked: list[str], folder: Path, sign: str) -> None:
    """Start the run and end it and its steps at once when a file of a step has come."""
    with subprocess.Popen(
        asked,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        try:
            wait_until(sign, lambda: bool(list(folder.glob(sign))), 120)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_what_was_published_says_what_it_was_made_of_and_how_it_was_judged(
    metrics: str, tmp_path: Path
) -> None:
    """The measured data, the run, and that the gate's limits were not the shipped ones."""
    store = tmp_path / "store"

    done = run(command(tmp_path / "run", metrics, store, LIMITS, "seeds=[1]"))

    assert done.returncode == 0, done.stderr[-3000:]
    metadata = open_store(store).show(NAME, "1")
    config = metadata.training["config"]
    assert config["measured"]["trained_on"] == ["measured", "shipped traces"]
    assert config["pipeline_run"] == result(tmp_path / "run")["run_id"]
    assert metadata.evaluation["gate"]["limits_changed"] == SMOKE_LIMITS
    assert metadata.evaluation["gate"]["passed"] is True


def test_a_data_set_that_may_not_be_learnt_from_stops_the_run(tmp_path: Path) -> None:
    """A feature vanished: `require` ends before training, and says why."""
    columns = day(HOURS)
    columns["request_rate"][960:] = float("nan")
    with prometheus(tmp_path / "prometheus", open_metrics(columns)) as history:
        done = run(command(tmp_path / "run", history.url, tmp_path / "store"))

    assert done.returncode == 1
    assert "vanished before the end: request_rate" in done.stdout + done.stderr
    assert "train-0" not in executions(tmp_path / "run")


def test_two_processes_do_not_share_a_run(metrics: str, tmp_path: Path) -> None:
    """The second is refused while the first is under way."""
    folder = tmp_path / "run"
    asked = command(folder, metrics, tmp_path / "store")
    with subprocess.Popen(
        asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), cwd=ROOT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_until("the run began", (folder / "run.json").is_file, 60)
            second = run(asked)
        finally:
            os.killpg(process.pid, signal.SIGKILL)

    assert second.returncode == 1
    assert "expected no other process to run this pipeline" in second.stderr
    assert str(END_S) in (folder / "run.json").read_text()
