"""`make demo`: the loop closed on this machine, on a real trace, beside the emulated HPA.

Real pods, haproxy, Prometheus, transformer, predictor and operator; the Kubernetes API is a
stand-in. Writes one HTML page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from nimbusguard.contract.errors import NimbusGuardError
from tests.demo.deciders import Terms, operator
from tests.demo.report import figures, keep, summary, write
from tests.demo.rounds import HPA, NIMBUSGUARD, Round, play
from tests.demo.stage import SIMULATED, stage
from tests.demo.traffic import EXCERPT_NAME, Traffic, compressed, trace_of
from tests.demo.view import View

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
PROGRAMS = ("prometheus", "haproxy")
TERMS = Terms(interval_s=5.0)
"""A third of a cluster's interval of 15 s, as the trace is compressed."""
FIRST = 2
"""Pods of both at the start."""


async def compare(
    traffic: Traffic, *, seed: int, console: Console, store: Path
) -> dict[str, Round]:
    """The operator and the HPA under the same arrivals at the same time.

    Args:
        traffic: Sent to both.
        seed: Of the arrivals.
        console: Where the view is drawn.
        store: New file for the operator's experience, absolute.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        console.print("starting Prometheus, predictor, transformer, haproxy, pods, operator")
        async with stage(folder) as on:
            lanes = {NIMBUSGUARD: await on.lane("web", FIRST), HPA: await on.lane("web-hpa", FIRST)}
            keeping = {"AUTOSCALER_EXPERIENCE_STORE": str(store)}
            async with operator(on, **keeping) as running:
                _tell_addresses(console, running.url, on.stack.endpoint)
                if (address := await running.console()) is not None:
                    console.print(f"console     {address}")
                with View(console, seconds=traffic.seconds, objective_s=TERMS.objective_s) as view:
                    return await play(
                        on, traffic, lanes, TERMS, seed=seed, by=running, show=view.show
                    )


def _tell_addresses(console: Console, operator_url: str, prometheus_url: str) -> None:
    console.print(f"simulated: {SIMULATED}; everything else is real")
    console.print(f"operator    {operator_url}/metrics")
    console.print(f"Prometheus  {prometheus_url}")


def arguments() -> argparse.Namespace:
    """What the user asks for."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--trace", default=EXCERPT_NAME, help="a day of the traces")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the run")
    parser.add_argument("--rate", type=float, default=40.0, help="requests/s at the peak")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the page")
    return parser.parse_args()


def main() -> int:
    args, console = arguments(), Console()
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return _refused(f"install it with `apt-get install {' '.join(missing)}`")
    try:
        source = trace_of(Path(os.environ.get("NIMBUSGUARD_TRACES") or TRACES), args.trace)
    except NimbusGuardError as error:
        return _refused(str(error))
    except KeyError as error:
        return _refused(f"--trace: expected a day for validation, got {error}")
    traffic = compressed(source, peak_rate=args.rate, seconds=args.seconds)
    args.out.mkdir(parents=True, exist_ok=True)
    store = (args.out / "experience.db").resolve()
    for old in args.out.glob("experience.db*"):
        old.unlink()
    try:
        rounds = asyncio.run(compare(traffic, seed=args.seed, console=console, store=store))
    except KeyboardInterrupt:
        return _refused("stopped before its end; no report was written")
    write(args.out / "report.html", traffic, TERMS, rounds)
    keep(args.out / "run.json", traffic, TERMS, rounds)
    console.print()
    for name, values in [("", list(rounds)), *figures(list(rounds.values()))]:
        console.print(f"{name:<22} " + "  ".join(f"{value:>20}" for value in values))
    console.print()
    for told in summary(rounds, seconds=traffic.seconds):
        console.print(told, highlight=False)
    console.print(f"\n{args.out / 'report.html'}; what it was made of: run.json, experience.db")
    return 0


def _refused(why: str) -> int:
    sys.stderr.write(f"make demo: {why}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
