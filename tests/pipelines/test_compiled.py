"""The compiled pipeline in the repository is what the code compiles to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.processes import ROOT

STEPS = {
    "open-run", "collect", "prepare", "train", "evaluate", "gate", "publish", "start-canary",
    "close-run",
}  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    code = "import sys; from nimbusguard.cli import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run(
        [sys.executable, "-c", code, "pipeline", "compile", "--out", str(path)],
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    return path


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    text = (ROOT / "manifests/pipelines/dqn-training-pipeline.yaml").read_text()
    document: dict[str, Any] = next(iter(yaml.safe_load_all(text)))
    return document


def test_the_shipped_pipeline_is_what_the_code_compiles_to(compiled: Path) -> None:
    """Byte for byte; `nimbusguard pipeline compile` writes it anew."""
    shipped = ROOT / "manifests/pipelines/dqn-training-pipeline.yaml"

    assert shipped.read_text() == compiled.read_text()


def tasks(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every step of every part of the pipeline, by name."""
    parts = [document["root"], *document["components"].values()]
    return {
        name: task
        for part in parts
        for name, task in part.get("dag", {}).get("tasks", {}).items()
        if name in STEPS
    }


def test_every_step_runs_in_the_training_image_with_requests_limits_and_retries(
    shipped: dict[str, Any],
) -> None:
    """And nothing is installed when it starts: the image holds it."""
    executors = shipped["deploymentSpec"]["executors"]
    found = tasks(shipped)

    assert {name.removeprefix("exec-") for name in executors} == STEPS == found.keys()
    for executor in executors.values():
        container = executor["container"]
        assert container["image"] == "nimbusguard/training:0.1.0"
        assert container["resources"].keys() >= {"resourceCpuRequest", "resourceMemoryLimit"}
        assert "pip install" not in " ".join(container["command"])
    assert all(task["retryPolicy"]["maxRetryCount"] >= 2 for task in found.values())


def test_the_steps_are_cached_but_for_the_clock_and_the_count(shipped: dict[str, Any]) -> None:
    """What stands on the clock is cached by the moment that the first step fixes."""
    cached = {
        name for name, task in tasks(shipped).items() if task["cachingOptions"].get("enableCache")
    }

    assert STEPS - {"open-run", "close-run"} == cached


def test_publishing_waits_for_the_gate(shipped: dict[str, Any]) -> None:
    """The condition is on the gate's answer, and both later steps are behind it."""
    conditions = [
        (task["triggerPolicy"]["condition"], name)
        for part in shipped["components"].values()
        for name, task in part.get("dag", {}).get("tasks", {}).items()
        if "triggerPolicy" in task and "condition" in task["triggerPolicy"]
    ]
    behind = [
        set(part["dag"]["tasks"])
        for part in shipped["components"].values()
        if "publish" in part.get("dag", {}).get("tasks", {})
    ]

    assert conditions[0][0] == (
        "inputs.parameter_values['pipelinechannel--gate-Output'] == 'passed'"
    )
    assert behind == [{"publish", "start-canary"}]


def test_the_recurring_run_gives_only_parameters_that_the_pipeline_has(
    shipped: dict[str, Any],
) -> None:
    """And every one that has no default, but for the run's own id."""
    recurring = yaml.safe_load((ROOT / "manifests/pipelines/recurring-run.yaml").read_text())
    declared = shipped["root"]["inputDefinitions"]["parameters"]
    needed = {name for name, each in declared.items() if not each.get("isOptional")}

    assert recurring["parameters"].keys() <= declared.keys()
    assert needed - recurring["parameters"].keys() == set()
