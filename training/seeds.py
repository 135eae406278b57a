"""Many seeds at once: one process each, told apart by nothing but their seed.

A finished seed is calibrated by its own process. Of all seeds the one that costs least within the
gate's limits on violations, on the calibration windows, is the candidate; the judge's windows have
no part in it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Final

import orjson
import torch

from training import checkpoint
from training.calibrate import Figures, calibrate, choose, limits_for
from training.dqn import EpochRecord
from training.evaluate import Court, best_within
from training.lanes import ClusterEnvironment, LaneSettings
from training.lineup import FAMILIES
from training.measured import read_arrivals
from training.objective import Objective
from training.provenance import git_commit
from training.settings import TrainingSettings
from training.splits import calibration_windows, learning_windows
from training.train import SeedRun, train_seed
from training.verdict import RIVAL_FAMILY
from training.warm_start import StaffingRule

CALIBRATION_FILE: Final = "calibration.json"
CANDIDATE_FILE: Final = "candidate.json"
_CALIBRATION_SEED: Final = 7
"""Random numbers of the calibration; the judge has others."""
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run."""

    seeds: tuple[int, ...]
    directory: Path
    traces: Path
    settings: TrainingSettings
    lanes: LaneSettings
    objective: Objective
    resume: bool = False
    calibration_decisions: int | None = None
    """Cuts the calibration windows short, for a run that only proves that training works."""
    measured: Path | None = None
    """What `training.prepare` wrote of a user's own traffic, to be learnt from as well."""


Progress = Callable[[int, EpochRecord], None]
"""Told of each epoch of each seed."""


def seed_directory(directory: Path, seed: int) -> Path:
    """Where a seed's files are."""
    return directory / f"seed-{seed}"


def run_seeds(plan: Plan, *, processes: int, progress: Progress) -> int:
    """Train and calibrate every seed; name the candidate.

    Returns:
        The candidate's seed.
    """
    context = multiprocessing.get_context("spawn")
    served = SyncManager(ctx=context)
    served.start(_end_with_parent)
    with (
        served as manager,
        ProcessPoolExecutor(
            max_workers=processes, mp_context=context, initializer=_end_with_parent
        ) as pool,
    ):
        records: Queue[tuple[int, EpochRecord]] = manager.Queue()
        running = {pool.submit(run_seed, plan, seed, records) for seed in plan.seeds}
        while running:
            try:
                progress(*records.get(timeout=_POLL_S))
            except Empty:
                finished = {future for future in running if future.done()}
                for future in as_completed(finished):
                    future.result()
                running -= finished
        while not records.empty():
            progress(*records.get())
    return name_candidate(plan.directory, plan.seeds, plan.objective)


def _end_with_parent() -> None:
    """A worker whose parent was killed would train on for minutes, into the next run's files."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def run_seed(plan: Plan, seed: int, records: Queue[tuple[int, EpochRecord]]) -> None:
    """Train one seed in this process, and calibrate what came of it."""
    directory = seed_directory(plan.directory, seed)
    run = SeedRun(seed=seed, directory=directory, settings=plan.settings, resume=plan.resume)
    train_seed(
        run,
        environment_of(plan),
        StaffingRule(),
        lambda number, record: records.put((number, record)),
    )
    calibrate_seed(plan, seed)


def environment_of(plan: Plan) -> ClusterEnvironment:
    """The clusters that a plan learns on."""
    settings = plan.settings
    group = 5 if settings.branch_steps > 0 else 1
    groups = settings.lanes // group
    return ClusterEnvironment(
        learning_windows(plan.traces, read_arrivals(plan.measured) if plan.measured else ()),
        plan.objective,
        lanes=settings.lanes,
        measuring=round(groups * settings.greedy_lanes_ratio) * group,
        decisions=settings.steps_per_epoch,
        settings=plan.lanes,
        group=group,
    )


def calibrate_seed(plan: Plan, seed: int) -> None:
    """Choose a trained network's multiplier and write what it was chosen from."""
    torch.set_num_threads(1)
    directory = seed_directory(plan.directory, seed)
    network, described = checkpoint.read_network(directory / "network.npz")
    court = Court(
        windows=calibration_windows(plan.traces),
        seeds=(_CALIBRATION_SEED,),
        objective=plan.objective,
        decisions=plan.calibration_decisions,
    )
    rails = plan.lanes.guard if plan.lanes.guarded_ratio > 0 else None
    rival = best_within(FAMILIES[RIVAL_FAMILY].judge(court), plan.objective.violation_budget_ratio)
    found = calibrate(network, court, rails=rails, rival=rival)
    document = {
        "multiplier": found.multiplier,
        "trained_multiplier": described["multiplier"],
        "pod_hours": found.chosen.total_pod_hours,
        "mean_violation_ratio": found.chosen.mean_violation_ratio,
        "window_excess_ratio": found.window_excess_ratio,
        **found.edges._asdict(),
        "turns_ratio": found.turns_ratio,
        "rival": rival.to_json(),
        "family": [each.to_json() for each in found.family],
    }
    (directory / CALIBRATION_FILE).write_bytes(_json(document))


def name_candidate(directory: Path, seeds: Sequence[int], objective: Objective) -> int:
    """The seed that costs least within the gate's limits on the calibration windows."""
    found = [read_calibration(directory, seed) for seed in seeds]
    options = [Figures(*(float(each[name]) for name in Figures._fields)) for each in found]
    chosen = choose(options, limits_for(objective))
    best = seeds[chosen]
    document = {"seed": best, "multiplier": found[chosen]["multiplier"], "seeds": list(seeds)}
    (directory / CANDIDATE_FILE).write_bytes(_json(document))
    return best


def read_calibration(directory: Path, seed: int) -> dict[str, Any]:
    """What `calibrate_seed` wrote."""
    path = seed_directory(directory, seed) / CALIBRATION_FILE
    document: dict[str, Any] = orjson.loads(path.read_bytes())
    return document


def describe(plan: Plan) -> dict[str, Any]:
    """Everything that decides a run, for the record."""
    return {
        "seeds": list(plan.seeds),
        "settings": asdict(plan.settings),
        "lanes": asdict(plan.lanes),
        "objective": plan.objective.to_dict(),
        "warm_start": asdict(StaffingRule()),
        "git_commit": git_commit(Path(__file__).parent),
    }


def _json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
