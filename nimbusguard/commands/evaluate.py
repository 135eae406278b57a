"""`nimbusguard evaluate`: policies side by side over real traffic, as table, JSON and report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbusguard.contract.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.evaluate import Court, Judgement
    from training.simulator.interface import Policy
    from training.simulator.workload import Workload

_SHOWN_PER_GROUP = 2
_WIDTH = 140


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="POLICY",
        help="version:DIRECTORY, endpoint:URL, either after guarded+, or FAMILY:VALUE; repeatable",
    )
    parser.add_argument(
        "--use",
        choices=("validate", "calibrate", "stress"),
        default="validate",
        help="windows to judge on (%(default)s)",
    )
    parser.add_argument("--windows", nargs="*", help="only windows whose names begin so")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11])
    parser.add_argument("--decisions", type=int, help="cut each window to so many decisions")
    parser.add_argument(
        "--families",
        nargs="*",
        default=["hpa", "hpa-prometheus", "rps", "kpa", "square-root", "static"],
        help="baselines to sweep; hpa must be among them (all)",
    )
    parser.add_argument("--no-oracle", action="store_true", help="leave the oracle out")
    parser.add_argument("--engine", choices=("fast", "event"), default="fast")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--title", default="NimbusGuard: policies on unseen traffic")


def run(args: argparse.Namespace) -> int:
    """Judge, write `evaluation.json` and `report.html`, print the table; exit status 0."""
    import orjson

    from nimbusguard.policy.guard import GuardSettings
    from training.evaluate import judge
    from training.lineup import FAMILIES, ORACLE_MULTIPLIERS, judge_oracle, policy_named
    from training.report import page
    from training.verdict import document_of

    unknown = [name for name in args.families if name not in FAMILIES]
    if unknown or "hpa" not in args.families:
        message = f"--families: expected hpa and others of {sorted(FAMILIES)}, got {args.families}"
        raise InvalidRequest(message)
    court = _court(args)
    policies = [policy_named(name, court.objective, GuardSettings()) for name in args.policy]
    judged = [judge(policy, court) for policy in policies]
    families = {name: FAMILIES[name].judge(court) for name in args.families}
    oracle = [] if args.no_oracle else judge_oracle(court, ORACLE_MULTIPLIERS)
    document = document_of(args.title, court, args.engine, judged, families, oracle)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "evaluation.json").write_bytes(
        orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    )
    ours = {each.policy: [each] for each in judged}
    plots = _plots(court, policies, {**families, "oracle": oracle, **ours})
    (args.out / "report.html").write_text(page(document, plots))
    _print(document)
    return 0


def _court(args: argparse.Namespace) -> Court:
    from training.evaluate import Court
    from training.objective import DEFAULT_OBJECTIVE
    from training.simulator.events import EventQueue
    from training.simulator.fluid import FluidQueue

    return Court(
        windows=_windows(args),
        seeds=tuple(args.seeds),
        objective=DEFAULT_OBJECTIVE,
        engine=FluidQueue if args.engine == "fast" else EventQueue,
        decisions=args.decisions,
    )


def _windows(args: argparse.Namespace) -> Sequence[Workload]:
    from training.simulator.settings import TraceSettings
    from training.splits import calibration_windows
    from training.traces import Use, windows

    folder = TraceSettings.from_environ().folder
    found = (
        calibration_windows(folder) if args.use == "calibrate" else windows(Use(args.use), folder)
    )
    if args.windows:
        found = [each for each in found if each.name.startswith(tuple(args.windows))]
    if not found:
        message = f"--windows: expected the beginning of a window's name, got {args.windows}"
        raise InvalidRequest(message)
    return found


def _plots(
    court: Court,
    policies: Sequence[Policy],
    families: dict[str, list[Judgement]],
) -> dict[str, list[str]]:
    from training import showing

    plots = {
        "Cost against violations": [showing.frontier_plot(families, court.objective)],
        "Load and replicas": showing.courses(court, policies, families, _SHOWN_PER_GROUP),
    }
    mix = showing.action_plot(policies)
    if mix:
        plots["What it does"] = [mix]
    curves = showing.q_plots(policies)
    if curves:
        plots["Q-values against features"] = curves
    return plots


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from training.report import POLICY_COLUMNS, policy_rows

    table = Table(title=document["title"])
    for column in POLICY_COLUMNS:
        table.add_column(column, no_wrap=True, justify="left" if column == "policy" else "right")
    for row in policy_rows(document):
        table.add_row(*row)
    # Piped into a file there is no width to keep to.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    console.print(table)
