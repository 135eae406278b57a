"""`nimbusguard experience`: what the operator recorded, counted, exported for training, pruned."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from nimbusguard.contract.errors import InvalidRequest

if TYPE_CHECKING:
    from autoscaler.experience import ExperienceStore, Stats

_DAY_S = 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--store", required=True, type=Path, help="the operator's SQLite file")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    stats = actions.add_parser("stats", help="count decisions by source, with outcomes and times")
    stats.add_argument("--json", action="store_true", help="print JSON instead of a table")
    export = actions.add_parser("export", help="write new rows as Parquet")
    export.add_argument("--to", required=True, help="a folder or s3://bucket/prefix")
    prune = actions.add_parser("prune", help="remove old decisions with their outcomes")
    prune.add_argument("--days", required=True, type=float, help="keep decisions younger than this")


def run(args: argparse.Namespace) -> int:
    """Do one action; exit status 0."""
    from autoscaler.experience import ExperienceStore

    if not args.store.is_file():
        message = f"--store: expected the operator's SQLite file, got {args.store}"
        raise InvalidRequest(message)
    now_s = time.time()  # noqa: TID251 - a command is where the clock is read
    with ExperienceStore(args.store) as store:
        lines = _ACTIONS[args.action](store, args, now_s)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _stats(store: ExperienceStore, args: argparse.Namespace, _now_s: float) -> list[str]:
    stats = store.stats()
    if args.json:
        return [orjson.dumps(_document(stats), option=orjson.OPT_INDENT_2).decode()]
    rows = [
        ("decisions", str(stats.decisions)),
        ("with outcome", str(stats.with_outcome)),
        *((f"  {source}", str(count)) for source, count in stats.by_source.items()),
        ("first", _moment(stats.first_decided_at_s) or "-"),
        ("last", _moment(stats.last_decided_at_s) or "-"),
        ("size", f"{stats.size_bytes / 2**20:.1f} MiB"),
    ]
    return [f"{name:<14} {value}" for name, value in rows]


def _document(stats: Stats) -> dict[str, object]:
    return {
        "decisions": stats.decisions,
        "with_outcome": stats.with_outcome,
        "by_source": stats.by_source,
        "first_decided_at": _moment(stats.first_decided_at_s),
        "last_decided_at": _moment(stats.last_decided_at_s),
        "size_bytes": stats.size_bytes,
    }


def _export(store: ExperienceStore, args: argparse.Namespace, now_s: float) -> list[str]:
    from autoscaler.export import export

    files = export(store, args.to, now_s=now_s)
    return files or ["nothing new"]


def _prune(store: ExperienceStore, args: argparse.Namespace, now_s: float) -> list[str]:
    if not args.days >= 0.0:
        message = f"--days: expected a number from 0, got {args.days}"
        raise InvalidRequest(message)
    removed = store.prune(before_s=now_s - args.days * _DAY_S)
    return [f"{removed} decisions removed"]


def _moment(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat("T", "seconds")


_ACTIONS = {"stats": _stats, "export": _export, "prune": _prune}
