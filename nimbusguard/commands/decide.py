"""`nimbusguard decide`: one decision, for a payload or for a workload that Prometheus knows."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from nimbusguard.client.client import Client
from nimbusguard.client.decision import Decision
from nimbusguard.client.endpoint import Endpoint
from nimbusguard.client.exchange import ClientSettings
from nimbusguard.client.instances import (
    NamedMetrics,
    RawVector,
    ReplicaBounds,
    Workload,
)
from nimbusguard.client.prometheus import PrometheusClient, PrometheusSettings
from nimbusguard.commands.asking import LOCAL_ENDPOINT, add_flags, default_endpoint, read_payload
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import FEATURES, INDEX, NAMES

if TYPE_CHECKING:
    from rich.console import RenderableType

Payload = NamedMetrics | RawVector
_REPLICAS: Final = ("current_replicas", "min_replicas", "max_replicas")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_flags(parser, endpoint=f"KSERVE_ENDPOINT, else {LOCAL_ENDPOINT}", printed="a table")
    source = parser.add_argument_group("a workload that Prometheus knows, instead of a payload")
    source.add_argument("--prometheus", metavar="URL", help="such as http://127.0.0.1:9090")
    source.add_argument("--namespace", metavar="N")
    source.add_argument("--deployment", metavar="D")
    source.add_argument("--current-replicas", type=int, metavar="R", help="default pod_count")
    source.add_argument("--min-replicas", type=int, metavar="R")
    source.add_argument("--max-replicas", type=int, metavar="R")
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Ask for the decisions and print them; exit status 0."""
    _check_usage(args)
    instances: Sequence[Payload] = [_looked_up(args)] if args.prometheus else _given(args.payload)
    environ: Mapping[str, str] = os.environ  # noqa: TID251 - handed on to settings
    settings = ClientSettings(endpoint=Endpoint.parse(args.endpoint or default_endpoint(environ)))
    with Client(settings) as client:
        decisions = client.decide(instances)
    if args.json:
        document = {"predictions": [decision.to_dict() for decision in decisions]}
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print_tables(instances, decisions)
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    if args.prometheus:
        if args.payload is not None:
            args.usage_error("a payload and --prometheus exclude each other")
        if not (args.namespace and args.deployment):
            args.usage_error("--prometheus needs --namespace and --deployment")
        return
    for name in ("namespace", "deployment", *_REPLICAS):
        if getattr(args, name) is not None:
            args.usage_error(f"--{name.replace('_', '-')} needs --prometheus")


def _looked_up(args: argparse.Namespace) -> NamedMetrics:
    """The workload's features from Prometheus; NaN travels as absent."""
    with PrometheusClient(PrometheusSettings(endpoint=args.prometheus)) as client:
        row = client.read(args.namespace, args.deployment)  # (F,)
    return NamedMetrics(
        metrics=dict(zip(NAMES, row.tolist(), strict=True)),
        replicas=ReplicaBounds(**{name: getattr(args, name) for name in _REPLICAS}),
        workload=Workload(namespace=args.namespace, deployment=args.deployment),
    )


def _given(payload: str | None) -> Sequence[Payload]:
    """The instances of a payload."""
    return [_instance(item) for item in read_payload(payload)["instances"]]


def _instance(document: Any) -> Payload:
    """One instance as it stands in the payload; the transformer alone judges what is in it."""
    if isinstance(document, list):
        return RawVector(values=document)
    if isinstance(document, dict):
        return NamedMetrics(metrics=document)
    message = f"payload: expected an object or an array for an instance, got {document!r:.60}"
    raise InvalidRequest(message)


def _print_tables(instances: Sequence[Payload], decisions: Sequence[Decision]) -> None:
    from rich.console import Console

    console = Console()
    for index, (instance, decision) in enumerate(zip(instances, decisions, strict=True)):
        if len(decisions) > 1:
            console.rule(f"instance {index}")
        now, then = decision.current_replicas, decision.target_replicas
        console.print(f"{decision.action.name}: {now} → {then} replicas", style="bold")
        values = _values(instance)
        if values:
            console.print(_feature_table(values, decision))
        console.print(_action_table(decision))
        console.print(
            f"{decision.model_name} version {decision.model_version}, {decision.fingerprint}",
            soft_wrap=True,
        )


def _values(instance: Payload) -> dict[str, Any]:
    """The features that the payload says itself; none where the transformer looks them up."""
    if isinstance(instance, RawVector):
        return dict(zip(NAMES, instance.values, strict=True))
    return {name: value for name, value in instance.metrics.items() if name in INDEX}


def _feature_table(values: Mapping[str, Any], decision: Decision) -> RenderableType:
    from rich.table import Table

    table = Table("feature", "value", "unit", "", title="State")
    for feature in FEATURES:
        value = values.get(feature.name)
        if feature.name in decision.imputed_features:
            shown, note = "absent", "read as 0"
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            is_clipped = feature.name in decision.clipped_features
            note = f"clipped to {feature.minimum:g} … {feature.maximum:g}" if is_clipped else ""
        table.add_row(feature.name, shown, feature.unit, note)
    return table


def _action_table(decision: Decision) -> RenderableType:
    from rich.table import Table

    table = Table("action", "replicas", "Q-value", "", title="Actions")
    for action, q_value in zip(ScaleAction, decision.q_values, strict=True):
        is_allowed = action in decision.allowed_actions
        note = "chosen" if action is decision.action else "" if is_allowed else "outside the bounds"
        table.add_row(action.name, f"{action.change:+d}", f"{q_value:.4f}", note)
    return table
