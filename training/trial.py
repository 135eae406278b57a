"""One trial of the search: hyper-parameters in as flags, metric lines out, as Katib reads them.

The objective `cost_at_budget` is what the network costs where it keeps the violation budget, over
what the tuned HPA costs there, on the calibration days: below 1 is better than the HPA. A network
that keeps the budget at no price costs what its least violating price costs, times by how much that
violates too much: a finite number, and the worse the farther it is from the budget.

A training that diverges, or any other mistake, ends with status 1 and without a final figure, and
Katib reports the trial as failed. No line ever holds a NaN.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import NimbusGuardError, NonFiniteOutput
from nimbusguard.contract.features import STATE_DIM
from nimbusguard.policy.guard import GuardSettings
from training.calibrate import Calibration, calibrate
from training.dqn import EpochRecord, Learner
from training.dueling_network import DuelingNetwork
from training.evaluate import Court, best_within
from training.katib import metric_line
from training.lanes import LaneSettings
from training.lineup import FAMILIES
from training.objective import DEFAULT_OBJECTIVE, Objective
from training.seeds import Plan, environment_of
from training.settings import TrainingSettings
from training.simulator.settings import TraceSettings
from training.splits import calibration_windows
from training.statistics import cost_at_violation
from training.traces import Use, windows
from training.train import memory_of
from training.verdict import RIVAL_FAMILY, points_of
from training.warm_start import StaffingRule

_COURT_SEED: Final = 7
_EARLY_DECISIONS: Final = 240
"""An hour of each calibration day is enough to stop a trial that is far behind."""
Say = Callable[[str], None]


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The learner's settings that the parameters of a search stand for, JSON-ready.

    Args:
        values: Parameter to value, as text or number; a name that is no parameter of the search is
            a setting of the learner already.
    """
    settings: dict[str, Any] = {}
    for name, value in values.items():
        if name == "hidden_width":
            settings["hidden"] = [int(value), int(value)]
        else:
            settings[_SETTINGS.get(name, name)] = _KINDS.get(name, float)(value)
    return settings


_SETTINGS: Final = {"exploration": "branch_curiosity", "n_step": "branch_steps"}
"""With branching, a branch is what n-step targets are without, and a random continuation what an
exploring lane is; docs/training.md."""
_KINDS: Final[Mapping[str, Callable[[Any], Any]]] = {"batch_size": int, "n_step": int}


def run_trial(plan: Plan, *, report_every: int, say: Say, use: str = "calibrate") -> float:
    """Train one seed, report on the way, and return the objective of the finished network.

    Raises:
        NonFiniteOutput: Training diverged.
    """
    early = _judge_of(plan, plan.calibration_decisions or _EARLY_DECISIONS)
    final = _judge_of(plan, plan.calibration_decisions, use)
    learner = _learner(plan)
    for record in _epochs(plan, learner):
        _require_finite(record)
        done = record.epoch + 1
        if done % report_every == 0 and done < plan.settings.epochs:
            say(metric_line(early(learner.target)))
    metrics = final(learner.target)
    say(metric_line(metrics))
    return metrics["cost_at_budget"]


def cost_at_budget(found: Calibration, rival_pod_hours: float, budget_ratio: float) -> float:
    """The objective; finite for every network.

    Args:
        found: The network at every price.
        rival_pod_hours: What the tuned HPA costs within the budget.
        budget_ratio: Share of the requests that may violate.
    """
    cost = cost_at_violation(points_of(found.family), budget_ratio)
    if math.isfinite(cost):
        return cost / rival_pod_hours
    least = min(found.family, key=lambda each: each.mean_violation_ratio)
    return least.total_pod_hours / rival_pod_hours * (least.mean_violation_ratio / budget_ratio)


def _judge_of(
    plan: Plan, decisions: int | None, use: str = "calibrate"
) -> Callable[[DuelingNetwork], dict[str, float]]:
    """What a network is worth on the calibration days, or the gate's, cut to so many decisions."""
    budget = plan.objective.violation_budget_ratio
    court = Court(
        windows=(
            calibration_windows(plan.traces)
            if use == "calibrate"
            else windows(Use.VALIDATE, plan.traces)
        ),
        seeds=(_COURT_SEED,),
        objective=plan.objective,
        decisions=decisions,
    )
    rival = best_within(FAMILIES[RIVAL_FAMILY].judge(court), budget)

    def judge(network: DuelingNetwork) -> dict[str, float]:
        found = calibrate(network, court, rails=plan.lanes.guard)
        return {
            "cost_at_budget": cost_at_budget(found, rival.total_pod_hours, budget),
            "violation_ratio": found.chosen.mean_violation_ratio,
            "pod_hours": found.chosen.total_pod_hours,
            "turns_per_hour": found.chosen.turns_per_hour,
        }

    return judge


def _learner(plan: Plan) -> Learner:
    torch.set_num_threads(1)
    torch.manual_seed(plan.seeds[0])
    return Learner(plan.settings, STATE_DIM, ACTION_DIM)


def _epochs(plan: Plan, learner: Learner) -> Any:
    buffer, epochs = memory_of(plan.settings)
    rule = StaffingRule()
    return epochs(learner, environment_of(plan), buffer, seed=plan.seeds[0], rule=rule)


def _require_finite(record: EpochRecord) -> None:
    if not (math.isfinite(record.td_loss) and math.isfinite(record.mean_q)):
        message = (
            f"epoch {record.epoch}: expected finite losses, got td_loss {record.td_loss} and "
            f"mean_q {record.mean_q}; training diverged"
        )
        raise NonFiniteOutput(message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.trial", description=__doc__)
    default = TrainingSettings()
    parser.add_argument("--learning_rate", type=float, default=default.learning_rate)
    parser.add_argument("--discount", type=float, default=default.discount)
    parser.add_argument("--exploration", type=float, default=default.branch_curiosity)
    parser.add_argument("--batch_size", type=int, default=default.batch_size)
    parser.add_argument("--hidden_width", type=int, default=default.hidden[0])
    parser.add_argument("--n_step", type=int, default=default.branch_steps)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report_every", type=int, default=4, help="epochs between two reports")
    parser.add_argument("--calibration_decisions", type=int, help="cut each calibration window")
    parser.add_argument(
        "--judge",
        choices=("calibrate", "validate"),
        default="calibrate",
        help="days that the finished network is judged on; validate is for a last comparison alone",
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings of the learner"
    )
    return parser


def plan_of(args: argparse.Namespace, traces: Path, objective: Objective) -> Plan:
    """What the flags ask for."""
    searched = ("learning_rate", "discount", "exploration", "batch_size", "hidden_width", "n_step")
    found = settings_of({name: getattr(args, name) for name in searched})
    return Plan(
        seeds=(args.seed,),
        directory=Path(),
        traces=traces,
        settings=TrainingSettings()
        .with_values(found)
        .with_changes(dict(text.split("=", 1) for text in args.set)),
        lanes=LaneSettings(guard=GuardSettings()),
        objective=objective,
        calibration_decisions=args.calibration_decisions,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one trial; exit status 1 if it failed."""
    args = _parser().parse_args(argv)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    try:
        plan = plan_of(args, TraceSettings.from_environ().folder, DEFAULT_OBJECTIVE)
        run_trial(plan, report_every=args.report_every, say=say, use=args.judge)
    except NimbusGuardError as error:
        sys.stderr.write(f"trial failed: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
