"""The pipeline on one machine, against a real Prometheus: refused, passed, killed and gone on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
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
    """Killed in each of the nine steps, one after the other; one version, whole, on trial."""
    folder, store = tmp_path / "run", tmp_path / "store"
    asked = command(folder, metrics, store, LIMITS)

    for step, sign in KILLS.items():
        kill_within(asked, folder, step, sign)
    done = run(asked)

    assert done.returncode == 0, done.stderr[-3000:]
    assert f"gate passed, version {result(folder)['version']}" in done.stdout
    assert open_store(store).versions(NAME) == ["1"]
    assert open_store(store).aliases(NAME) == {"canary": "1"}
    open_store(store).verify(NAME, "1")
    ended = Counter(executions(folder))
    assert {name: ended[name] for name in ONCE} == dict.fromkeys(ONCE, 1)
    # These are killed over their last file: that may fall between a step's end and its record.
    assert all(ended[name] <= 2 for name in ("collect", "gate", "publish")), ended


KILLS = {
    "open-run": None,
    "collect": "work/data/samples/*/*.parquet",
    "prepare": None,
    "train": "work/training/seed-*/curve.csv",
    "evaluate": "steps/*/evaluate/candidate/plan.json",
    "gate": "steps/*/gate/verdict/gate.json",
    "publish": f"../store/{NAME}/1/metadata.json",
    "start-canary": None,
    "close-run": None,
}
"""Step to the file in whose making it is killed; None kills it as soon as its process is there."""
ONCE = ("prepare", "train-0", "train-1", "evaluate", "start-canary")
HOLD = """
import signal
import sys
from pathlib import Path

if "--function_to_execute" in sys.orig_argv and {function!r} in sys.orig_argv:
    Path({sign!r}).touch()
    signal.pause()
"""
"""Python runs this before a program: one that executes the step says so, and waits for its end."""


def kill_within(asked: list[str], folder: Path, step: str, sign: str | None) -> None:
    """Start the run, and end it with its steps at once when this step is under way."""
    environ = environment()
    if sign is None:
        # Some steps are over sooner than anybody can look.
        sign = f"../held/{step}"
        held = folder.parent / "held"
        held.mkdir(exist_ok=True)
        function = step.replace("-", "_")
        (held / "sitecustomize.py").write_text(
            HOLD.format(function=function, sign=str(held / step))
        )
        environ["PYTHONPATH"] = os.pathsep.join((str(held), environ["PYTHONPATH"]))
    with subprocess.Popen(
        asked,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environ,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        try:
            wait_until(
                f"{step} is under way, or the run has ended",
                lambda: any(folder.glob(sign)) or process.poll() is not None,
                120,
            )
            assert process.poll() is None, f"the run ended before {step} could be killed"
        finally:
            with suppress(ProcessLookupError):
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
