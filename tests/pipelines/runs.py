"""Small pipeline runs as a user starts them: the command, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.live.processes import ROOT
from tests.pipelines.history import END_S

COMMAND = Path(sys.executable).parent / "nimbusguard"
HOURS = 8
TINY = {"epochs": 2, "steps_per_epoch": 80, "lanes": 50, "updates_per_branch": 4}
"""Two epochs are no policy; they are every line of the code."""
SMOKE_LIMITS = {
    "violation_budget_ratio": 1.0,
    "cost_ratio": 100.0,
    "cost_ratio_high": 100.0,
    "window_excess_ratio": 1.0,
    "idle_additions_ratio": 1.0,
    "saturated_neglect_ratio": 1.0,
    "spare_kept_ratio": 1.0,
    "turns_ratio": 1000.0,
    "seeds": 1,
}
"""Limits of a gate that lets an untrained network through; they stand in its metadata."""


def command(folder: Path, prometheus: str, store: Path, *parameters: str) -> list[str]:
    """A local run with a small budget."""
    return [
        str(COMMAND), "pipeline", "run", "--local", "--dir", str(folder),
        "--prometheus", prometheus, "--store", str(store), "--set",
        f"as_of={END_S}", f"hours={HOURS}", "seeds=[1,2]", f"settings={json.dumps(TINY)}",
        "calibration_decisions=40", "evaluation_decisions=40", 'families=["hpa"]', *parameters,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """This checkout's code, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(arguments: Sequence[str], *, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=environment(),
        cwd=ROOT,
    )


def executions(folder: Path) -> list[str]:
    """The steps that really ran, one name each time, seeds told apart."""
    found = []
    for output in (folder / "steps").rglob("executor_output.json"):
        step = output.parent
        loop = step.parent.name if step.parent.name.startswith("for-loop") else ""
        found.append(f"{step.name}{loop[-2:]}")
    return sorted(found)


def result(folder: Path) -> dict[str, Any]:
    """What the run left."""
    document: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return document
