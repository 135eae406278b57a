"""`python -m bench`: measure, and write `bench/results.json`, `results.md` and the plot."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from bench import machine, results
from bench.expected import WrongAnswerError
from bench.load import LoadFailedError
from bench.measure import Options, run_table
from bench.observability import run_observability
from bench.overload import run_overload
from bench.pages import write_pages
from bench.plan import full_plan, quick_plan
from bench.plot import draw
from bench.poison import run_poison
from bench.processes import ROOT, ServerFailedError
from bench.profile import run_profile
from bench.replicas import run_ray
from bench.report import render, targets_table
from bench.soak import run_memory, run_soak
from bench.targets import judge

MODEL_FILE: Final = ROOT / "model_store" / "default" / "nimbusguard-dqn" / "1" / "model.pt"
RESULTS: Final = ROOT / "bench"
PLOT: Final = "latency_over_load.svg"

PARTS: Final[dict[str, str]] = {
    "table": "the side-by-side comparison",
    "overload": "twice the capacity for a minute",
    "poison": "one client in four sends rows of ten features",
    "soak": "memory over two million requests",
    "memory": "memory after each kind of load",
    "profile": "where the CPU time of one request goes",
    "ray": "the predictor on Ray with one and two replicas",
    "observability": "what metrics and traces cost",
    "report": "write the page and the plot again from what was measured",
    "all": "every part, one after another",
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the two services beside the SDK and the bare web server.",
        epilog="\n".join(f"  {name:14}{text}" for name, text in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=PARTS, help="what to measure")
    parser.add_argument("--date", required=True, help="the day, written into the results")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--model", type=Path, default=MODEL_FILE, help="the TorchScript network of a version"
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--seconds", type=int, default=1, help="length of one measurement")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=2_000_000, help="of the soak")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="under two minutes: two rounds of one second, and only what the targets speak of",
    )
    parser.add_argument(
        "--targets-only",
        action="store_true",
        help="leave out of the table what no target speaks of: five minutes instead of fifteen",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run one part or all of them.

    Returns:
        0 if everything was measured and every measured target holds, 1 if one does not, 2 if a part
        could not be measured; the others are written all the same.
    """
    args = parse(argv)
    signal.signal(signal.SIGTERM, _leave)
    args.output.mkdir(parents=True, exist_ok=True)
    command = "python -m bench " + shlex.join(argv)
    origin = machine.provenance(date=args.date, command=command)
    document = args.output / "results.json"
    started = time.perf_counter()
    failed = False
    with tempfile.TemporaryDirectory(prefix="nimbusguard-bench-") as scratch:
        options = Options(
            rounds=2 if args.quick else args.rounds,
            seconds=1 if args.quick else args.seconds,
            model_file=args.model.resolve(),
            scratch=Path(scratch),
            say=_say,
        )
        for name, run in _chosen(args, options):
            _say(f"== {PARTS[name]} (after {(time.perf_counter() - started) / 60:.1f} minutes)")
            # One part that cannot be measured does not take what the others took along.
            try:
                results.save(document, name, run(), origin)
            except (ServerFailedError, WrongAnswerError, LoadFailedError) as error:
                print(f"bench: {name}: {error}", file=sys.stderr)
                failed = True
    verdict = write_report(args.output)
    return 2 if failed else verdict


def _chosen(args: argparse.Namespace, options: Options) -> list[tuple[str, Callable[[], object]]]:
    plan = quick_plan() if args.quick or args.targets_only else full_plan()
    runs: dict[str, Callable[[], object]] = {
        "table": lambda: run_table(plan, options),
        "overload": lambda: run_overload(options, seconds=args.overload_seconds),
        "poison": lambda: run_poison(options),
        "soak": lambda: run_soak(options, count=args.requests),
        "memory": lambda: run_memory(options),
        "profile": lambda: run_profile(options),
        "ray": lambda: run_ray(options),
        "observability": lambda: run_observability(options),
    }
    if args.part == "report":
        return []
    if args.part == "all":
        return list(runs.items()) if not args.quick else [("table", runs["table"])]
    return [(args.part, runs[args.part])]


def write_report(output: Path) -> int:
    """Write the page and the plot from the records, and print what must hold.

    Only records in their own folder reach the other pages: a quick look elsewhere changes nothing.
    """
    document, origins = results.load(output / "results.json")
    plot = None
    if document.table is not None:
        draw(document.table, output / PLOT)
        plot = PLOT
    (output / "results.md").write_text(render(document, origins, plot=plot))
    if output.resolve() == RESULTS:
        write_pages(document, origins)
    verdicts = judge(document)
    print(targets_table(verdicts))
    return 1 if any(verdict.holds is False for verdict in verdicts) else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _leave(_signal: int, _frame: object) -> NoReturn:
    """End the servers on SIGTERM too: `SystemExit` passes through every `with`."""
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
