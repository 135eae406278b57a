"""Katib's Experiment on one machine: the same file, the same trial command, the same filter.

Optuna takes Katib's place. A trial is a process of its own, told by flags and read by its output;
so a trial that crashes fails alone. Everything is in the folder of the search: `study.journal` (to
resume), a log for each trial, `report.json`, and the Experiment as it was read.

Bayesian optimization is a tree-structured Parzen estimator (Bergstra et al. 2011) here and a
Gaussian process on a cluster: both model the objective from the trials so far; they are not the
same search.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nimbusguard.contract.errors import InvalidRequest
from training.dataset import write_document
from training.katib import Experiment, Parameter, read_line
from training.trial import settings_of

JOURNAL_FILE: Final = "study.journal"
REPORT_FILE: Final = "report.json"
Say = Callable[[str], None]
DEFAULTS: Final[Mapping[str, str]] = {
    "learning_rate": "0.0005",
    "discount": "0.96",
    "exploration": "0.5",
    "batch_size": "256",
    "hidden_width": "64",
    "n_step": "40",
}
"""The learner's own settings, tried first: what is found can then only be better or equal on the
days that were searched on. A test keeps them equal to `TrainingSettings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search and how its trials are started."""

    experiment: Experiment
    folder: Path
    extra: tuple[str, ...] = ()
    """Further arguments of every trial, to make it smaller; a search is resumed with the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one trial's process ended."""

    values: Mapping[str, float]
    """Last figure of each metric."""
    is_stopped: bool
    reason: str | None
    """Why it failed; None if it did not."""


def run_search(search: Search, say: Say) -> dict[str, Any]:
    """Run the trials that are missing, and report.

    Returns:
        The report, as `report.json` holds it.

    Raises:
        InvalidRequest: The folder holds another search, the algorithm is unknown, or too many
            trials failed.
    """
    study = _opened(search)
    _take_back_interrupted(study)
    if not study.trials:
        study.enqueue_trial(_native(search.experiment, DEFAULTS))
    lock = Lock()

    def work() -> None:
        while (trial := _next(search, study, lock)) is not None:
            values = _text_values(search.experiment, trial.params)
            outcome = _execute(search, values, trial)
            with lock:
                _tell(search, study, trial, outcome)
                say(_line(search, study, trial.number))

    with ThreadPoolExecutor(max_workers=search.experiment.parallel_trials) as pool:
        for future in [pool.submit(work) for _ in range(search.experiment.parallel_trials)]:
            future.result()
    return _reported(search, study)


def compare(search: Search, best: Mapping[str, str]) -> dict[str, Any]:
    """The best and the default parameters trained again and judged on the gate's validation days.

    Raises:
        InvalidRequest: One of the two failed.
    """
    costs = {}
    for name, values in (("default", dict(DEFAULTS)), ("tuned", dict(best))):
        outcome = _execute(search, values, None, "--judge=validate", log=f"compare-{name}.log")
        if outcome.reason is not None:
            message = f"comparison, {name}: expected a finished trial, got {outcome.reason}"
            raise InvalidRequest(message)
        costs[name] = outcome.values[search.experiment.objective]
    better = costs["tuned"] <= costs["default"]
    return {"judged_on": "validation windows", **costs, "tuned_at_least_as_good": better}


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """A dimension as Optuna has it."""
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    if parameter.kind == "int":
        return IntDistribution(
            int(parameter.low), int(parameter.high), step=int(parameter.step or 1)
        )
    return FloatDistribution(
        parameter.low, parameter.high, log=parameter.is_log, step=parameter.step
    )


def sampler_of(experiment: Experiment) -> optuna.samplers.BaseSampler:
    """What proposes the next trial."""
    text = experiment.algorithm_settings.get("random_state")
    seed = None if text is None else int(text)
    if experiment.algorithm == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if experiment.algorithm in ("bayesianoptimization", "tpe"):
        # A running trial counts as a bad one, so that parallel trials do not try the same.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    message = f"algorithm: expected random, tpe or bayesianoptimization, got {experiment.algorithm}"
    raise InvalidRequest(message)


def pruner_of(experiment: Experiment) -> optuna.pruners.BasePruner:
    """What stops a trial that is behind."""
    if experiment.early_stopping is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=int(experiment.early_stopping["min_trials_required"]),
        n_warmup_steps=int(experiment.early_stopping["start_step"]),
    )


def _opened(search: Search) -> optuna.Study:
    search.folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            study_name=search.experiment.name,
            storage=JournalStorage(JournalFileBackend(str(search.folder / JOURNAL_FILE))),
            direction="minimize" if search.experiment.is_minimized else "maximize",
            sampler=sampler_of(search.experiment),
            pruner=pruner_of(search.experiment),
            load_if_exists=True,
        )
    command = [*search.experiment.command, *search.extra]
    known = study.user_attrs.get("command")
    if known not in (None, command):
        message = f"{search.folder}: expected the search of {known}, got {command}; name another"
        raise InvalidRequest(message)
    study.set_user_attr("command", command)
    return study


def _take_back_interrupted(study: optuna.Study) -> None:
    """A trial that was running when the search was killed is tried again and counts once."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _interrupted(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state is TrialState.FAIL and "reason" not in trial.user_attrs


def _next(search: Search, study: optuna.Study, lock: Lock) -> optuna.Trial | None:
    """The next trial, or None if there are enough, too many failed, or the goal is reached."""
    with lock:
        begun = [
            trial
            for trial in study.get_trials(deepcopy=False)
            if trial.state is not TrialState.WAITING and not _interrupted(trial)
        ]
        if (
            len(begun) >= search.experiment.max_trials
            or _failed(study) > search.experiment.max_failed
            or _reached(search, study)
        ):
            return None
        space = {each.name: distribution_of(each) for each in search.experiment.parameters}
        return study.ask(fixed_distributions=space)


def _failed(study: optuna.Study) -> int:
    return sum("reason" in trial.user_attrs for trial in study.get_trials(deepcopy=False))


def _reached(search: Search, study: optuna.Study) -> bool:
    goal, done = search.experiment.goal, _completed(study)
    if goal is None or not done:
        return False
    best = float(study.best_value)
    return best <= goal if search.experiment.is_minimized else best >= goal


def _completed(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    done: list[optuna.trial.FrozenTrial] = study.get_trials(
        deepcopy=False, states=(TrialState.COMPLETE,)
    )
    return done


def _execute(
    search: Search,
    values: Mapping[str, str],
    trial: optuna.Trial | None,
    *more: str,
    log: str | None = None,
) -> Outcome:
    """Run the trial's process to its end, or stop it when the median is far ahead."""
    command = [*search.experiment.command_of(values), *search.extra, *more]
    if command[0] == "python":
        command[0] = sys.executable
    name = log or f"trial-{trial.number if trial else 0}.log"
    found: dict[str, float] = {}
    reports = 0
    is_stopped = False
    with (search.folder / name).open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - the command of the Experiment
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with process:
            for line in _lines(process, file.write):
                metrics = dict(read_line(line, search.experiment.metrics))
                found |= metrics
                if trial is None or search.experiment.objective not in metrics or is_stopped:
                    continue
                trial.report(metrics[search.experiment.objective], reports)
                reports += 1
                if trial.should_prune():
                    is_stopped = True
                    process.terminate()
    if is_stopped:
        return Outcome(values=found, is_stopped=True, reason=None)
    return Outcome(values=found, is_stopped=False, reason=_why(search, process.returncode, found))


def _lines(process: subprocess.Popen[str], write: Callable[[str], object]) -> Iterator[str]:
    assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
    for line in process.stdout:
        write(line)
        yield line


def _why(search: Search, status: int, found: Mapping[str, float]) -> str | None:
    if status != 0:
        return f"exit status {status}"
    if search.experiment.objective not in found:
        return f"no {search.experiment.objective} was reported"
    return None


def _tell(search: Search, study: optuna.Study, trial: optuna.Trial, outcome: Outcome) -> None:
    for name, value in outcome.values.items():
        trial.set_user_attr(name, value)
    if outcome.is_stopped:
        study.tell(trial, state=TrialState.PRUNED)
    elif outcome.reason is not None:
        trial.set_user_attr("reason", outcome.reason)
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, outcome.values[search.experiment.objective])


def _reported(search: Search, study: optuna.Study) -> dict[str, Any]:
    trials = [each for each in study.get_trials(deepcopy=False) if not _interrupted(each)]
    report: dict[str, Any] = {
        "experiment": search.experiment.name,
        "objective": search.experiment.objective,
        "trials": [_described(search, each) for each in trials],
    }
    done = _completed(study)
    if done:
        best = study.best_trial
        values = _text_values(search.experiment, best.params)
        report["best"] = {
            "trial": best.number,
            search.experiment.objective: best.value,
            "parameters": values,
            "settings": settings_of(values),
        }
    write_document(search.folder / REPORT_FILE, report)
    failed = _failed(study)
    if failed > search.experiment.max_failed or not done:
        message = (
            f"{search.folder}: expected at most {search.experiment.max_failed} failed trials and "
            f"one that finished, got {failed} failed, {len(done)} finished; see the trials' logs"
        )
        raise InvalidRequest(message)
    return report


def _described(search: Search, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": {"COMPLETE": "succeeded", "PRUNED": "stopped early", "FAIL": "failed"}.get(
            trial.state.name, trial.state.name.lower()
        ),
        "parameters": _text_values(search.experiment, trial.params),
        **trial.user_attrs,
    }


def _line(search: Search, study: optuna.Study, number: int) -> str:
    described = _described(search, study.get_trials(deepcopy=False)[number])
    objective = search.experiment.objective
    value = described.get("reason") or f"{objective} {described.get(objective, float('nan')):.4g}"
    best = f", best {study.best_value:.4g}" if _completed(study) else ""
    return f"trial {number} {described['state']}: {value}{best}"


def _text_values(experiment: Experiment, params: Mapping[str, Any]) -> dict[str, str]:
    """Values as a command line has them."""
    return {each.name: str(params[each.name]) for each in experiment.parameters}


def _native(experiment: Experiment, values: Mapping[str, str]) -> dict[str, Any]:
    """Values as Optuna has them; one that the search does not know is left out."""
    kinds: dict[str, Callable[[str], Any]] = {"double": float, "int": int}
    return {
        each.name: kinds.get(each.kind, str)(values[each.name])
        for each in experiment.parameters
        if each.name in values
    }
