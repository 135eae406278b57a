"""`nimbusguard pipeline`: run the training pipeline here or on a cluster, or compile it."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from nimbusguard.contract.errors import InvalidRequest

_REQUIRED = ("prometheus", "store", "traces")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="once")
    where = run.add_mutually_exclusive_group(required=True)
    where.add_argument("--local", action="store_true", help="as processes of this machine")
    where.add_argument("--host", help="URL of Kubeflow Pipelines")
    run.add_argument(
        "--dir", type=Path, default=Path("runs/pipeline"), help="of a local run (%(default)s)"
    )
    run.add_argument("--prometheus", help="base URL; default PROMETHEUS_ENDPOINT")
    run.add_argument("--store", help="path or s3:// address of the model store; default runs/store")
    run.add_argument("--config", type=Path, help="what `tune best` wrote: settings of the learner")
    run.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="parameters of the pipeline, as JSON or text; docs/pipelines.md lists them",
    )
    schedule = verbs.add_parser("schedule", help="on a cluster, again and again")
    schedule.add_argument("--host", required=True, help="URL of Kubeflow Pipelines")
    schedule.add_argument(
        "--file", type=Path, default=Path("manifests/pipelines/recurring-run.yaml")
    )
    compiled = verbs.add_parser("compile", help="write the pipeline as YAML")
    compiled.add_argument("--out", type=Path, help="default: where the repository keeps it")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; exit status 0, or 3 if a local run's gate refused."""
    status: int = _VERBS[args.verb](args)
    return status


def _run(args: argparse.Namespace) -> int:
    from training.pipeline_run import run_local, submit

    parameters = parameters_of(args)
    if args.host:
        sys.stdout.write(f"run {submit(args.host, parameters)}\n")
        return 0
    now_s = time.time()  # noqa: TID251 - a command is where the clock is read
    result = run_local(args.dir, parameters, now_s=now_s)
    for each in result["conditions"]:
        holds = "holds" if each["passed"] else "fails"
        line = f"{holds}  {each['name']}: {each['value']:.4g}, limit {each['limit']:.4g}"
        sys.stdout.write(line + "\n")
    said = f"version {result['version']}" if result["version"] else "nothing published"
    sys.stdout.write(f"gate {result['gate']}, {said}\n")
    return 0 if result["gate"] == "passed" else 3


def _schedule(args: argparse.Namespace) -> int:
    import yaml

    from training.pipeline_run import schedule

    sys.stdout.write(
        f"recurring run {schedule(args.host, yaml.safe_load(args.file.read_text()))}\n"
    )
    return 0


def _compile(args: argparse.Namespace) -> int:
    from training.pipeline import COMPILED, compile_to

    compile_to(args.out or Path(COMPILED))
    return 0


def parameters_of(args: argparse.Namespace) -> dict[str, Any]:
    """Flags over environment over the pipeline's own defaults."""
    from nimbusguard.commands.train import config_of
    from nimbusguard.environment import read_keys
    from nimbusguard.settings import KEYS, from_environ
    from training.simulator.settings import TraceSettings

    environ = os.environ  # noqa: TID251 - handed on, not read
    settings = from_environ(environ)
    given = read_keys(environ, KEYS)
    parameters: dict[str, Any] = {
        "prometheus": args.prometheus or settings.prometheus_endpoint or "",
        "store": args.store or str(Path("runs/store").absolute()),
        "traces": str(TraceSettings.from_environ().folder),
        "hours": settings.data_collection_hours,
    }
    learner: dict[str, Any] = {}
    if "training_epochs" in given:
        learner["epochs"] = settings.training_epochs
    if args.config:
        learner |= config_of(args.config)
    parameters |= dict(_parameter(text) for text in args.set)
    if learner:
        parameters["settings"] = {**learner, **parameters.get("settings", {})}
    for name in _REQUIRED:
        if not parameters[name]:
            message = f"--{name}: expected a value, or PROMETHEUS_ENDPOINT for --prometheus"
            raise InvalidRequest(message)
    return parameters


def _parameter(text: str) -> tuple[str, Any]:
    """A parameter as the pipeline declares it: text as it stands, all else as JSON."""
    from training.pipeline import dqn_training

    declared = inspect.signature(dqn_training).parameters
    name, equals, value = text.partition("=")
    if not equals or name not in declared:
        message = f"--set: expected NAME=VALUE with one of {sorted(declared)}, got {text!r}"
        raise InvalidRequest(message)
    kind = declared[name].annotation
    if kind is str:
        return name, value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        found = None
    if kind is float and isinstance(found, int):
        found = float(found)
    if type(found) is not kind:
        message = f"--set {name}: expected a {kind.__name__} as JSON, got {value!r}"
        raise InvalidRequest(message)
    return name, found


_VERBS = {"run": _run, "schedule": _schedule, "compile": _compile}
