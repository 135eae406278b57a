"""`nimbusguard tune`: search hyper-parameters here, or read what Katib found on a cluster."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nimbusguard.contract.errors import InvalidRequest

if TYPE_CHECKING:
    from training.katib import Overrides

_EXPERIMENT = Path("manifests/katib/experiment.yaml")
_JOB = "nimbusguard-tune"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--experiment", type=Path, default=_EXPERIMENT, help="Katib's YAML (%(default)s)"
    )
    common.add_argument(
        "--dir", type=Path, default=Path("runs/tune"), help="of a local search (%(default)s)"
    )
    run = verbs.add_parser("run", parents=[common], help="the Experiment on this machine")
    run.add_argument(
        "--comparison-seeds",
        type=int,
        default=3,
        metavar="N",
        help="trainings of best and default for the last comparison (%(default)s); 0 leaves it out",
    )
    run.add_argument("--pushgateway", default="", help="URL that the finished search is counted at")
    run.add_argument(
        "trial_arguments",
        nargs="*",
        metavar="-- TRIAL ARGUMENTS",
        help="further flags of every trial, for a smaller search",
    )
    best = verbs.add_parser("best", parents=[common], help="write the best parameters")
    source = best.add_mutually_exclusive_group()
    source.add_argument("--cluster", action="store_true", help="from Katib, by the kubeconfig")
    source.add_argument(
        "--file", help="from `kubectl get experiment … -o json`; - is standard input"
    )
    best.add_argument("--context", help="of the kubeconfig; default its current one")
    best.add_argument("--out", type=Path, default=Path("runs/training.json"))
    verbs.add_parser("render", parents=[common], help="the Experiment with what .env sets")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; exit status 0."""
    _VERBS[args.verb](args)
    return 0


def overrides() -> Overrides:
    """What the environment sets; a key that is not set leaves what the Experiment says."""
    from nimbusguard.environment import read_keys
    from nimbusguard.settings import KEYS, from_environ
    from training.katib import Overrides

    environ = os.environ  # noqa: TID251 - handed on, not read
    settings = from_environ(environ)
    given = read_keys(environ, KEYS)
    return Overrides(
        max_trials=settings.katib_max_trial_count if "katib_max_trial_count" in given else None,
        parallel_trials=(
            settings.katib_parallel_trial_count if "katib_parallel_trial_count" in given else None
        ),
        learning_rate_min=settings.learning_rate_min if "learning_rate_min" in given else None,
        learning_rate_max=settings.learning_rate_max if "learning_rate_max" in given else None,
    )


def _run(args: argparse.Namespace) -> None:
    from training.dataset import write_document
    from training.katib import experiment_of, read_experiment
    from training.telemetry import EXPERIMENTS, Pushgateway
    from training.tuning import REPORT_FILE, Search, compare, run_search

    _, document = read_experiment(args.experiment)
    search = Search(
        experiment=experiment_of(overrides().applied(document)),
        folder=args.dir,
        extra=tuple(args.trial_arguments),
    )
    gateway = Pushgateway(args.pushgateway)
    try:
        report = run_search(search, _say)
        if args.comparison_seeds > 0:
            best = report["best"]["parameters"]
            report["comparison"] = compare(search, best, seeds=args.comparison_seeds)
            write_document(args.dir / REPORT_FILE, report)
    except InvalidRequest:
        gateway.count(EXPERIMENTS, job=_JOB, outcome="failed")
        raise
    gateway.count(EXPERIMENTS, job=_JOB, outcome="succeeded")
    sys.stdout.write("\n".join(_lines(report)) + "\n")


def _best(args: argparse.Namespace) -> None:
    from training.dataset import write_document
    from training.trial import settings_of
    from training.tuning import REPORT_FILE

    if args.cluster or args.file:
        source, parameters = _optimal(_cluster(args) if args.cluster else _read(args.file))
    else:
        path = args.dir / REPORT_FILE
        if not path.is_file():
            message = f"{path}: expected a finished search; run `nimbusguard tune run` first"
            raise InvalidRequest(message)
        best = orjson.loads(path.read_bytes()).get("best")
        if best is None:
            message = f"{path}: expected a finished trial, got none; see the trials' logs"
            raise InvalidRequest(message)
        source, parameters = str(args.dir), best["parameters"]
    settings = settings_of(parameters)
    write_document(args.out, {"source": source, "settings": settings})
    sys.stdout.write(f"{orjson.dumps(settings).decode()}\nwritten to {args.out}\n")


def _render(args: argparse.Namespace) -> None:
    import yaml

    from training.katib import read_experiment

    _, document = read_experiment(args.experiment)
    sys.stdout.write(yaml.safe_dump(overrides().applied(document), sort_keys=False))


def _optimal(document: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The best trial so far and its parameters, from an Experiment's status."""
    optimal = document.get("status", {}).get("currentOptimalTrial", {})
    found = {each["name"]: each["value"] for each in optimal.get("parameterAssignments", ())}
    if not found:
        name = document.get("metadata", {}).get("name")
        message = f"experiment {name}: expected status.currentOptimalTrial, got none; wait for one"
        raise InvalidRequest(message)
    return str(optimal.get("bestTrialName", "")), found


def _cluster(args: argparse.Namespace) -> dict[str, Any]:
    from training.katib import read_experiment
    from training.katib_cluster import fetch_experiment

    _, document = read_experiment(args.experiment)
    metadata = document["metadata"]
    return fetch_experiment(metadata["namespace"], metadata["name"], context=args.context)


def _read(file: str) -> dict[str, Any]:
    try:
        document = orjson.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"--file: expected what `kubectl get experiment … -o json` prints, got {error}"
        raise InvalidRequest(message) from error
    if not isinstance(document, dict):
        message = f"--file: expected an Experiment, got {type(document).__name__}"
        raise InvalidRequest(message)
    return document


def _lines(report: dict[str, Any]) -> list[str]:
    best = report["best"]
    lines = [f"best: trial {best['trial']}, {report['objective']} {best[report['objective']]:.4g}"]
    lines += [f"  {name} = {value}" for name, value in best["parameters"].items()]
    found = report.get("comparison")
    if found:
        verdict = "at least as good as" if found["tuned_at_least_as_good"] else "WORSE than"
        pairs = list(zip(found["tuned_by_seed"], found["default_by_seed"], strict=True))
        lower = sum(tuned < default for tuned, default in pairs)
        lines.append(
            f"on the {found['judged_on']}, mean of {len(pairs)} seeds: tuned {found['tuned']:.4g}, "
            f"default {found['default']:.4g}: the tuned configuration is {verdict} the default; "
            f"it costs less with {lower} of the seeds"
        )
    return lines


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


_VERBS = {"run": _run, "best": _best, "render": _render}
