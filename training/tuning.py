"""Katib's Experiment on one machine: the same file, the same trial command, the same filter.

Optuna takes Katib's place. A trial is a process of its own, told by flags and read by its output;
so a trial that crashes fails alone. Everything is in the folder of the search: `study.journal` (to
resume), a log for each trial, and `report.json`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any, Final

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nimbusguard.contract.errors import InvalidRequest
from training.dataset import write_document
from training.katib import Experiment
from training.study import distribution_of, pruner_of, sampler_of
from training.trial import settings_of
from training.trial_process import Outcome, execute

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
            outcome = _execute(search, values, f"trial-{trial.number}.log", trial)
            with lock:
                _tell(search, study, trial, outcome)
                say(_line(search, study, trial.number))

    with ThreadPoolExecutor(max_workers=search.experiment.parallel_trials) as pool:
        for future in [pool.submit(work) for _ in range(search.experiment.parallel_trials)]:
            future.result()
    return _reported(search, study)


def compare(search: Search, best: Mapping[str, str], *, seeds: int) -> dict[str, Any]:
    """The best and the default parameters trained again and judged on the gate's validation days.

    Args:
        search: Names the trial's command, and how many run at a time.
        best: What the search found.
        seeds: So many trainings of each; the verdict is on their mean.

    Raises:
        InvalidRequest: One of them failed.
    """
    asked = {"default": dict(DEFAULTS), "tuned": dict(best)}
    if asked["tuned"] == asked["default"]:
        # Where the search found nothing better, the same training would be done twice.
        del asked["tuned"]

    def judged(job: tuple[int, str]) -> float:
        seed, name = job
        return _judged(search, name, seed, asked[name])

    jobs = list(product(range(1, seeds + 1), asked))
    with ThreadPoolExecutor(max_workers=search.experiment.parallel_trials) as pool:
        costs = dict(zip(jobs, pool.map(judged, jobs), strict=True))
    by_seed = {name: [costs[seed, name] for seed in range(1, seeds + 1)] for name in asked}
    default, tuned = by_seed["default"], by_seed.get("tuned", by_seed["default"])
    return {
        "judged_on": "validation windows",
        "default": fmean(default),
        "tuned": fmean(tuned),
        "default_by_seed": default,
        "tuned_by_seed": tuned,
        "tuned_at_least_as_good": fmean(tuned) <= fmean(default),
    }


def _judged(search: Search, name: str, seed: int, values: Mapping[str, str]) -> float:
    log, flags = f"compare-{name}-{seed}.log", ("--judge=validate", f"--seed={seed}")
    outcome = _execute(search, values, log, None, *flags)
    if outcome.reason is not None:
        message = f"comparison, {name}: expected a finished trial, got {outcome.reason}"
        raise InvalidRequest(message)
    return outcome.values[search.experiment.objective]


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
    search: Search, values: Mapping[str, str], log: str, trial: optuna.Trial | None, *more: str
) -> Outcome:
    command = [*search.experiment.command_of(values), *search.extra, *more]
    return execute(search.experiment, command, search.folder / log, trial)


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
    trials = [
        each
        for each in study.get_trials(deepcopy=False)
        if each.state is not TrialState.WAITING and not _interrupted(each)
    ]
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
