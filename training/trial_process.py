"""One trial as a process: started by its command, read by Katib's filter, ended when behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from training.katib import Experiment, read_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one trial's process ended."""

    values: Mapping[str, float]
    """Last figure of each metric."""
    is_stopped: bool
    reason: str | None
    """Why it failed; None if it did not."""


def execute(
    experiment: Experiment, command: Sequence[str], log: Path, trial: optuna.Trial | None
) -> Outcome:
    """Run a trial's process to its end, or stop it when the median is far ahead.

    Args:
        experiment: Names the metrics.
        command: With its values in it; `python` is this interpreter.
        log: Receives all that the process prints.
        trial: Is told of the reports; None lets the process run to its end.
    """
    program = [sys.executable if command[0] == "python" else command[0], *command[1:]]
    found: dict[str, float] = {}
    reports = 0
    is_stopped = False
    with log.open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - the command of the Experiment
            program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with process:
            for line in _lines(process, file.write):
                metrics = dict(read_line(line, experiment.metrics))
                found |= metrics
                if trial is None or experiment.objective not in metrics or is_stopped:
                    continue
                trial.report(metrics[experiment.objective], reports)
                reports += 1
                if trial.should_prune():
                    is_stopped = True
                    process.terminate()
    if is_stopped:
        return Outcome(values=found, is_stopped=True, reason=None)
    return Outcome(
        values=found, is_stopped=False, reason=_why(experiment, process.returncode, found)
    )


def _lines(process: subprocess.Popen[str], write: Callable[[str], object]) -> Iterator[str]:
    assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
    for line in process.stdout:
        write(line)
        yield line


def _why(experiment: Experiment, status: int, found: Mapping[str, float]) -> str | None:
    if status != 0:
        return f"exit status {status}"
    if experiment.objective not in found:
        return f"no {experiment.objective} was reported"
    return None
