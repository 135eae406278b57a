"""`nimbusguard collect`: hours of metrics from Prometheus into one data set for training."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nimbusguard.contract.errors import InvalidRequest

if TYPE_CHECKING:
    from training.range_query import Span

_DEADLINE_S = 60.0
"""For one chunk of one query; an interactive query has a second."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--out", type=Path, default=Path("runs/data"), help="folder (%(default)s)")
    parser.add_argument("--prometheus", help="base URL; default PROMETHEUS_ENDPOINT")
    parser.add_argument("--hours", type=float, help="how far back; default DATA_COLLECTION_HOURS")
    parser.add_argument("--end", type=float, help="Unix seconds; default now, or the first run's")
    parser.add_argument("--step", type=int, default=15, help="seconds between rows (%(default)s)")
    parser.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="NAMESPACE/NAME",
        help="repeatable; default every workload that has features",
    )
    parser.add_argument("--experience", help="folder or s3:// address of the operator's export")


def run(args: argparse.Namespace) -> int:
    """Collect, print what was found; exit status 0."""
    from nimbusguard.client.prometheus import PrometheusSettings
    from nimbusguard.settings import from_environ
    from training.collect import CollectPlan, collect
    from training.range_query import RangeClient, workload_named

    settings = from_environ(os.environ)  # noqa: TID251 - handed on, not read
    endpoint = args.prometheus or settings.prometheus_endpoint
    if not endpoint:
        message = "Prometheus: expected --prometheus URL or PROMETHEUS_ENDPOINT"
        raise InvalidRequest(message)
    plan = CollectPlan(
        span=_span(args, settings.data_collection_hours if args.hours is None else args.hours),
        workloads=tuple(workload_named(text) for text in args.workload),
        experience=args.experience,
    )
    with RangeClient(PrometheusSettings(endpoint=endpoint, deadline_s=_DEADLINE_S)) as client:
        manifest = collect(args.out, client, plan, progress=_progress)
    sys.stdout.write("\n".join(_lines(manifest)) + "\n")
    return 0


def _span(args: argparse.Namespace, hours: float) -> Span:
    from training.dataset import PLAN_FILE
    from training.range_query import Span, span_before

    known = args.out / PLAN_FILE
    if args.end is None and known.is_file():
        # A collection that was stopped goes on with its own range, not with a later one.
        return Span(**orjson.loads(known.read_bytes())["span"])
    now_s = time.time()  # noqa: TID251 - a command is where the clock is read
    return span_before(now_s if args.end is None else args.end, hours, args.step)


def _progress(done: int, of: int) -> None:
    sys.stderr.write(f"chunk {done} of {of}\n")


def _lines(manifest: dict[str, Any]) -> list[str]:
    samples = manifest["samples"]
    lines = [
        f"{samples['rows']} rows in {len(samples['files'])} chunks, "
        f"{samples['duplicates_equal']} equal and {samples['duplicates_conflicting']} conflicting "
        f"duplicates, {manifest['experience']['rows']} decisions of the operator"
    ]
    for each in manifest["workloads"]:
        vanished = ", ".join(each["vanished_features"]) or "none"
        lines.append(
            f"{each['namespace']}/{each['workload']}: {each['usable_rows']} usable rows, "
            f"gaps {each['gap_ratio']:.1%}, counter resets {each['counter_resets']}, "
            f"vanished: {vanished}"
        )
    return lines
