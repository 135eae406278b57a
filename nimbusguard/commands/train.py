"""`nimbusguard train`: learn a policy, any number of seeds side by side."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbusguard.contract.errors import InvalidRequest

if TYPE_CHECKING:
    from training.dqn import EpochRecord


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs/dqn"), help="directory of the run (%(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="one network each (1 to 5)"
    )
    parser.add_argument("--processes", type=int, default=2, help="seeds at once (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument(
        "--config", type=Path, help="what `tune best` wrote; --set changes it further"
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the learner, or with objective. or guard. in front one of those",
    )
    parser.add_argument(
        "--calibration-decisions", type=int, help="cut each calibration window to so many decisions"
    )


def run(args: argparse.Namespace) -> int:
    """Train, calibrate, name the candidate; exit status 0."""
    # Imported late: only training needs torch.
    from nimbusguard.policy.guard import GuardSettings
    from training.lanes import LaneSettings
    from training.objective import Objective
    from training.seeds import Plan, describe, run_seeds
    from training.settings import TrainingSettings
    from training.simulator.settings import TraceSettings

    groups = _by_prefix(args.set)
    plan = Plan(
        seeds=tuple(args.seeds),
        directory=args.out,
        traces=TraceSettings.from_environ().folder,
        settings=TrainingSettings().with_values(config_of(args.config)).with_changes(groups[""]),
        lanes=LaneSettings(guard=_changed(GuardSettings(), groups["guard"])),
        objective=_changed(Objective(), groups["objective"]),
        resume=args.resume,
        calibration_decisions=args.calibration_decisions,
    )
    _write_plan(args.out, describe(plan))
    with _Display(plan.seeds, plan.settings.epochs) as display:
        seed = run_seeds(plan, processes=args.processes, progress=display.show)
    display.say(f"candidate: seed {seed}; judge it with: nimbusguard gate --run {args.out}")
    return 0


def config_of(path: Path | None) -> dict[str, Any]:
    """The settings that a training config holds; none without one."""
    import orjson

    if path is None:
        return {}
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())["settings"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        message = f"--config: expected what `nimbusguard tune best` wrote, got {path}: {error}"
        raise InvalidRequest(message) from error
    return found


def _by_prefix(changes: list[str]) -> dict[str, dict[str, str]]:
    groups: dict[str, dict[str, str]] = {"": {}, "guard": {}, "objective": {}}
    for change in changes:
        name, equals, value = change.partition("=")
        prefix, _, rest = name.rpartition(".")
        if not equals or prefix not in groups:
            message = (
                "--set: expected NAME=VALUE, guard.NAME=VALUE or objective.NAME=VALUE, "
                f"got {change!r}"
            )
            raise InvalidRequest(message)
        groups[prefix][rest] = value
    return groups


def _changed(settings: Any, changes: dict[str, str]) -> Any:
    names = {field.name for field in dataclasses.fields(settings)}
    values: dict[str, Any] = {}
    for name, text in changes.items():
        if name not in names:
            message = f"--set: expected one of {sorted(names)}, got {name!r}"
            raise InvalidRequest(message)
        try:
            values[name] = type(getattr(settings, name))(text)
        except ValueError as error:
            message = f"--set {name}: expected a number, got {text!r}"
            raise InvalidRequest(message) from error
    return dataclasses.replace(settings, **values)


def _write_plan(directory: Path, document: dict[str, Any]) -> None:
    import orjson

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "plan.json").write_bytes(
        orjson.dumps(document, option=orjson.OPT_INDENT_2, default=list)
    )


class _Display:
    """A bar a seed, with what its last epoch measured."""

    def __init__(self, seeds: tuple[int, ...], epochs: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("seed {task.fields[seed]}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._tasks = {
            seed: self._progress.add_task("", total=epochs, seed=seed, figures="") for seed in seeds
        }

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, seed: int, record: EpochRecord) -> None:
        """One epoch of one seed has ended."""
        figures = (
            f"violations {100 * record.violation_ratio:.2f} %  spare pods "
            f"{record.cost_per_step:.2f}  multiplier {record.multiplier:.0f}"
        )
        self._progress.update(self._tasks[seed], completed=record.epoch + 1, figures=figures)

    def say(self, text: str) -> None:
        """A line below the bars."""
        self._progress.console.print(text, soft_wrap=True)
