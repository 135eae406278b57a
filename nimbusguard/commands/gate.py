"""`nimbusguard gate`: may the candidate of a run be published? With `--publish`, do so."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.evaluate import Court
    from training.gate import Verdict


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--run", type=Path, default=Path("runs/dqn"), help="a finished run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11])
    parser.add_argument("--decisions", type=int, help="cut each window to so many decisions")
    parser.add_argument("--publish", metavar="STORE", help="path or s3:// address of a store")
    parser.add_argument("--promote", metavar="ALIAS", help="alias to point to the new version")
    parser.add_argument("--force", metavar="REASON", help="publish although the gate says no")


def run(args: argparse.Namespace) -> int:
    """Judge, write `gate.json`, publish if asked; exit status 1 if the gate says no."""
    import orjson

    from training.candidate import candidate_seed, export_seed, write_files
    from training.edges import edges_of
    from training.gate import GateSettings
    from training.gating import hold_gate, judge_run, record_of

    plan = orjson.loads((args.run / "plan.json").read_bytes())
    chosen = candidate_seed(args.run)
    exported = export_seed(args.run, chosen)
    write_files(exported, args.run / "candidate")
    court = _court(args, plan)
    judged = judge_run(args.run, plan, court)
    verdict = hold_gate(
        GateSettings(violation_budget_ratio=court.objective.violation_budget_ratio),
        judged,
        chosen,
        parity=exported.parity.passed,
        edges=edges_of(exported.q_function, court.objective),
    )
    evaluation = record_of(verdict, judged, chosen, plan)
    (args.run / "gate.json").write_bytes(orjson.dumps(evaluation, option=orjson.OPT_INDENT_2))
    _print(verdict)
    if args.publish:
        _publish(args, exported, plan, evaluation)
    return 0 if verdict.passed or args.force else 1


def _court(args: argparse.Namespace, plan: dict[str, Any]) -> Court:
    from training.evaluate import Court
    from training.objective import Objective
    from training.simulator.settings import TraceSettings
    from training.traces import Use, windows

    return Court(
        windows=windows(Use.VALIDATE, TraceSettings.from_environ().folder),
        seeds=tuple(args.seeds),
        objective=Objective(**plan["objective"]),
        decisions=args.decisions,
    )


def _print(verdict: Verdict) -> None:
    from rich.console import Console
    from rich.table import Table

    said = "passed" if verdict.passed else "not passed"
    table = Table(
        "condition", "value", "limit", "holds", title=f"Gate against {verdict.rival}: {said}"
    )
    for each in verdict.conditions:
        table.add_row(
            each.name, f"{each.value:.4g}", f"{each.limit:.4g}", "yes" if each.passed else "no"
        )
    Console().print(table)


def _publish(
    args: argparse.Namespace, exported: Any, plan: dict[str, Any], evaluation: dict[str, Any]
) -> None:
    from datetime import UTC, datetime

    from model_store.store import open_store
    from training.candidate import MODEL_NAME, publish

    store = open_store(args.publish)
    metadata = publish(
        store,
        exported,
        plan=plan,
        evaluation=evaluation,
        now=datetime.now(tz=UTC),  # noqa: TID251 - the edge, where the clock is read once
        force_reason=args.force,
    )
    if args.promote:
        store.promote(MODEL_NAME, args.promote, metadata.version)
    sys.stdout.write(f"published {MODEL_NAME} version {metadata.version}\n")
