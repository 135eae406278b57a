"""`make demo`: the loop closed on this machine, on a real trace, beside the emulated HPA.

Real pods, haproxy, Prometheus, transformer, predictor and operator; only the Kubernetes API is a
stand-in. Writes one HTML page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from nimbusguard.contract.errors import NimbusGuardError
from tests.demo.report import figures, write
from tests.demo.rounds import Round, play, stage
from tests.demo.traffic import Traffic, traffic_of
from tests.demo.view import View

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
POLICIES = ("nimbusguard", "hpa")


async def compare(traffic: Traffic, *, seed: int, console: Console) -> list[Round]:
    """Both policies on the same stage, one after the other, with the same arrivals."""
    with tempfile.TemporaryDirectory() as folder, View(console, traffic.seconds) as view:
        async with stage(Path(folder)) as on:
            return [
                await play(on, traffic, policy, seed=seed, show=view.show) for policy in POLICIES
            ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--trace", default="nasa-1995-07-24", help="a day of the traces")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of each run")
    parser.add_argument("--rate", type=float, default=40.0, help="requests/s at the peak")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the page")
    args = parser.parse_args()
    folder = Path(os.environ.get("NIMBUSGUARD_TRACES") or TRACES)
    console = Console()
    try:
        traffic = traffic_of(folder, args.trace, peak_rate=args.rate, seconds=args.seconds)
    except NimbusGuardError as error:
        sys.stderr.write(f"make demo: {error}\n")
        return 1
    rounds = asyncio.run(compare(traffic, seed=args.seed, console=console))
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out / "report.html", traffic, rounds)
    for name, values in figures(rounds):
        console.print(f"{name:<20} " + "  ".join(f"{value:>20}" for value in values))
    console.print(f"\n{args.out / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
