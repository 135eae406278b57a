"""`nimbusguard canary`: start, status, judge, promote, rollback, watch."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from nimbusguard.contract.errors import InvalidRequest

if TYPE_CHECKING:
    from nimbusguard.canary.kubernetes import Cluster
    from nimbusguard.canary.operations import Operations
    from nimbusguard.canary.plan import Patch, Rollout
    from nimbusguard.policy.canary import Arm, Judgement, Limits

_EXIT = {"promote": 0, "hold": 3, "roll back": 4, "refuse": 5}
"""Exit status of `judge` and `watch` by verdict, for scripts; 1 and 2 keep their meaning."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--kind", choices=("traffic", "graph"), default="graph")
    common.add_argument("--namespace", default="nimbusguard-serving")
    common.add_argument("--context", help="of the kubeconfig; default its current one")
    common.add_argument(
        "--manifests", metavar="FILE", help="read rendered YAML instead of a cluster; - is stdin"
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    changing = argparse.ArgumentParser(add_help=False)
    changing.add_argument(
        "--dry-run", action="store_true", help="print the patches, change nothing"
    )
    judging = argparse.ArgumentParser(add_help=False)
    judging.add_argument("--prometheus", help="base URL; default PROMETHEUS_ENDPOINT")
    judging.add_argument("--window", help="how far back to count; default 10m, by workload 6h")
    judging.add_argument("--selector", help="labels of the series; default the namespace")
    judging.add_argument("--stable", help="version to compare with, if several serve")
    judging.add_argument("--min-requests", type=int, help="of each version before a promotion")
    versioned = argparse.ArgumentParser(add_help=False)
    versioned.add_argument("--version", required=True, help="model version on trial")

    start = verbs.add_parser("start", parents=[common, changing, versioned], help="give it a share")
    start.add_argument("--percent", type=int, required=True, help="of the requests, 1 to 100")
    verbs.add_parser("status", parents=[common], help="where the roll-out stands")
    judge = verbs.add_parser(
        "judge", parents=[common, judging, versioned], help="compare it with stable"
    )
    judge.add_argument(
        "--by-workload",
        action="store_true",
        help="judge what the operator recorded of whole workloads, instead of single requests",
    )
    judge.add_argument("--store", type=Path, metavar="FILE", help="the operator's experience")
    verbs.add_parser("promote", parents=[common, changing], help="make it the one that serves")
    verbs.add_parser("rollback", parents=[common, changing], help="send it no requests")
    watch = verbs.add_parser(
        "watch", parents=[common, judging, versioned], help="1, 5, 25, 50, 100 %%, judged between"
    )
    watch.add_argument("--interval", type=float, default=60.0, help="seconds between judgements")
    watch.add_argument("--max-judgements", type=int, default=30, help="at one step; then roll back")


def run(args: argparse.Namespace) -> int:
    """Do what was asked.

    Returns:
        0 done or promote, 3 hold, 4 roll back, 5 refuse.
    """
    if args.verb == "judge":
        if args.by_workload:
            judgement = _judgement_by_workload(args, time.time())  # noqa: TID251 - read once, here
        else:
            judgement = _judgement(args, args.version)
        _print_judgement(judgement, as_json=args.json)
        return _EXIT[judgement.verdict.value]
    operations = _operations(args)
    if args.verb == "start":
        operations.start(args.version, args.percent)
    elif args.verb == "promote":
        operations.promote()
    elif args.verb == "rollback":
        operations.rollback()
    elif args.verb == "watch":
        return _watch(operations, args)
    else:
        _print_status(operations.status(), as_json=args.json)
    return 0


def _operations(args: argparse.Namespace) -> Operations:
    from nimbusguard.canary.operations import Names, Operations
    from nimbusguard.canary.plan import Kind

    return Operations(
        _cluster(args),
        Kind(args.kind),
        Names(),
        dry_run=getattr(args, "dry_run", False),
        show=_print_patch,
    )


def _cluster(args: argparse.Namespace) -> Cluster:
    if args.manifests:
        from nimbusguard.canary.offline import RenderedManifests

        text = sys.stdin.read() if args.manifests == "-" else Path(args.manifests).read_text()
        return RenderedManifests.from_text(text)
    from nimbusguard.canary.kubernetes import KubernetesCluster

    return KubernetesCluster(args.namespace, args.context)


def _watch(operations: Operations, args: argparse.Namespace) -> int:
    from nimbusguard.canary.operations import watch

    verdict = watch(
        operations,
        args.version,
        lambda _: _judgement(args, args.version),
        wait=lambda: time.sleep(args.interval),
        max_judgements=args.max_judgements,
        say=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201 - progress
    )
    return _EXIT[verdict.value]


def _judgement(args: argparse.Namespace, version: str) -> Judgement:
    """Read the counts of both versions and judge them."""
    from nimbusguard.canary.figures import Figures, read_arms
    from nimbusguard.canary.plan import Kind
    from nimbusguard.client.prometheus import PrometheusClient, PrometheusSettings
    from nimbusguard.policy.canary import judge
    from nimbusguard.settings import from_environ

    named = from_environ(os.environ).prometheus_endpoint  # noqa: TID251 - handed on, not read
    endpoint = args.prometheus or named
    if not endpoint:
        message = "Prometheus: expected --prometheus URL or PROMETHEUS_ENDPOINT"
        raise InvalidRequest(message)
    figures = Figures(
        kind=Kind(args.kind),
        selector=args.selector or f'namespace="{args.namespace}"',
        window=args.window or "10m",
    )
    with PrometheusClient(PrometheusSettings(endpoint=endpoint, deadline_s=10.0)) as client:
        arms = read_arms(client, figures)
    limits = _limits(args)
    return judge(_stable(arms, version, args.stable), _arm(arms, version), limits)


def _judgement_by_workload(args: argparse.Namespace, now_s: float) -> Judgement:
    """Judge what the operator recorded of both versions."""
    from autoscaler.experience import ExperienceStore
    from autoscaler.trials import compare
    from nimbusguard.policy.canary import judge

    if args.store is None or not args.store.is_file():
        message = f"--store: expected the operator's SQLite file, got {args.store}"
        raise InvalidRequest(message)
    since_s = now_s - _seconds(args.window or "6h")
    with ExperienceStore(args.store) as store:
        found = compare(store.trials(since_s=since_s), version=args.version, stable=args.stable)
    return judge(found.stable, found.canary, _limits(args), found.shadow)


def _limits(args: argparse.Namespace) -> Limits:
    from nimbusguard.policy.canary import Limits

    return Limits() if args.min_requests is None else Limits(min_requests=args.min_requests)


def _seconds(window: str) -> int:
    """Seconds of a duration as Prometheus writes it."""
    match = re.fullmatch(r"([1-9][0-9]*)([smhd])", window)
    if match is None:
        message = f"--window: expected a duration such as 6h, got {window!r}"
        raise InvalidRequest(message)
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def _arm(arms: dict[str, Arm], version: str) -> Arm:
    if version not in arms:
        message = f"version {version}: no process serves it; serving: {', '.join(arms) or 'none'}"
        raise InvalidRequest(message)
    return arms[version]


def _stable(arms: dict[str, Arm], version: str, named: str | None) -> Arm:
    if named is not None:
        return _arm(arms, named)
    others = sorted(arms.keys() - {version})
    if len(others) != 1:
        message = f"--stable: expected, because these serve too: {', '.join(others) or 'none'}"
        raise InvalidRequest(message)
    return arms[others[0]]


# What is printed


def _print_patch(patch: Patch) -> None:
    """The exact body that is sent, and where to."""
    body = orjson.dumps(list(patch.operations), option=orjson.OPT_INDENT_2).decode()
    sys.stdout.write(f"PATCH {patch.resource}/{patch.name} application/json-patch+json\n{body}\n")


def _print_status(rollout: Rollout, *, as_json: bool) -> None:
    document = {field.name: getattr(rollout, field.name) for field in fields(rollout)}
    if as_json:
        sys.stdout.write(orjson.dumps(document).decode() + "\n")
        return
    for name, value in document.items():
        shown = "none" if value is None else value
        sys.stdout.write(f"{name.replace('_', ' '):16}{shown}\n")


def _print_judgement(judgement: Judgement, *, as_json: bool) -> None:
    rows: Sequence[dict[str, str]] = [
        {field.name: str(getattr(finding, field.name)) for field in fields(finding)}
        for finding in judgement.findings
    ]
    if as_json:
        document = {
            "verdict": judgement.verdict.value,
            "reasons": judgement.reasons,
            "findings": rows,
        }
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("check", "verdict", "stable", "canary", "reason")
    for row in rows:
        table.add_row(*(row[name] for name in ("check", "verdict", "stable", "canary", "reason")))
    console = Console(markup=False)
    console.print(table)
    console.print(f"{judgement.verdict.value}: {'; '.join(judgement.reasons)}", soft_wrap=True)
