"""Training runs on disk: one process a seed, a checkpoint an epoch, curves for people and tools.

A run directory holds `seed-<n>/` with `settings.json`, `curve.csv`, `checkpoint.npz` (to resume),
`network.npz` (the result), and TensorBoard events. The learner itself is `training/dqn.py`.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson
import torch

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import STATE_DIM
from training import checkpoint
from training.branching import BranchBuffer, BranchingEnvironment
from training.dqn import EpochRecord, Learner, learn, learn_by_branching
from training.environment import Rule
from training.replay_buffer import ReplayBuffer
from training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """What one process is to train."""

    seed: int
    directory: Path
    settings: TrainingSettings
    resume: bool = False
    """Go on from the checkpoint in `directory`, if there is one."""
    tensorboard: bool = True
    """Write TensorBoard events beside the curve."""


class Report(Protocol):
    """What is told of each epoch."""

    def __call__(self, seed: int, record: EpochRecord) -> None:
        """One epoch of one seed has ended."""
        ...


def train_seed(
    run: SeedRun, environment: BranchingEnvironment, rule: Rule | None, report: Report
) -> Learner:
    """Train one seed to its last epoch and leave curve, checkpoint and network in its directory.

    Raises:
        InvalidRequest: The directory holds a run of other settings, or one and `resume` is not set.
    """
    # One thread: the networks are too small to gain from more, and sums stay in one order.
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    learner = Learner(run.settings, STATE_DIM, ACTION_DIM)
    buffer, epochs = memory_of(run.settings)
    first = _open_directory(run, learner, buffer)
    with _curve(run, fresh=first == 0) as write:
        for record in epochs(
            learner, environment, buffer, seed=run.seed, rule=rule, first_epoch=first
        ):
            write(record)
            checkpoint.save(
                run.directory / "checkpoint.npz", learner, buffer, next_epoch=record.epoch + 1
            )
            report(run.seed, record)
    # The target network is the running mean of the online one, and plays more evenly.
    checkpoint.save_network(
        run.directory / "network.npz", learner.target, multiplier=learner.multiplier
    )
    return learner


def memory_of(settings: TrainingSettings) -> tuple[Any, Callable[..., Iterator[EpochRecord]]]:
    """The buffer that the settings ask for, and the loop that fills it."""
    if settings.branch_steps > 0:
        groups = settings.lanes // ACTION_DIM
        return (
            BranchBuffer(settings.branches_kept, groups, state_dim=STATE_DIM),
            learn_by_branching,
        )
    return (
        ReplayBuffer(
            settings.replay_steps, settings.lanes, state_dim=STATE_DIM, action_dim=ACTION_DIM
        ),
        learn,
    )


def read_curve(directory: Path) -> list[dict[str, float]]:
    """The curve of a seed, one row an epoch."""
    with (directory / "curve.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def settings_document(settings: TrainingSettings) -> bytes:
    """The settings as JSON, for the run directory and the metadata."""
    return orjson.dumps(dataclasses.asdict(settings), option=orjson.OPT_INDENT_2)


def _open_directory(run: SeedRun, learner: Learner, buffer: checkpoint.Kept) -> int:
    saved, described = run.directory / "checkpoint.npz", run.directory / "settings.json"
    wanted = settings_document(run.settings)
    if not run.resume and saved.exists():
        message = f"{run.directory}: expected no earlier run, got one; resume it or name another"
        raise InvalidRequest(message)
    run.directory.mkdir(parents=True, exist_ok=True)
    if run.resume and saved.exists():
        if described.read_bytes() != wanted:
            message = (
                f"{described}: expected the settings of this run, got others; name another run"
            )
            raise InvalidRequest(message)
        return checkpoint.restore(saved, learner, buffer)
    described.write_bytes(wanted)
    return 0


@contextmanager
def _curve(run: SeedRun, *, fresh: bool) -> Iterator[Callable[[EpochRecord], None]]:
    names = [field.name for field in dataclasses.fields(EpochRecord)]
    path = run.directory / "curve.csv"
    with path.open("w" if fresh else "a", newline="") as file:
        table = csv.DictWriter(file, names)
        if fresh:
            table.writeheader()
        events = _events(run)

        def write(record: EpochRecord) -> None:
            row = dataclasses.asdict(record)
            table.writerow(row)
            file.flush()
            for name, value in row.items():
                events(name, value, record.epoch)

        yield write


def _events(run: SeedRun) -> Callable[[str, float, int], None]:
    if not run.tensorboard:
        return _nowhere
    # Imported late: a run without events needs no TensorBoard.
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.directory / "tensorboard"))

    def write(name: str, value: float, epoch: int) -> None:
        writer.add_scalar(f"train/{name}", value, epoch)
        writer.flush()

    return write


def _nowhere(name: str, value: float, epoch: int) -> None:
    """Where events go that nobody asked for."""
