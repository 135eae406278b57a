"""The `nimbusguard` command. Each part is imported only when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final

from nimbusguard.contract.errors import NimbusGuardError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "canary": ("nimbusguard.commands.canary", "roll a model version out in steps, judge, undo"),
    "serve": ("nimbusguard.commands.serve", "start transformer and predictor on this machine"),
    "decide": ("nimbusguard.commands.decide", "one decision, for a payload or from Prometheus"),
    "explain": ("nimbusguard.commands.explain", "why the network decides so, as bars"),
    "models": ("nimbusguard.commands.models", "versions of the network: list, publish, promote"),
    "collect": ("nimbusguard.commands.collect", "hours of metrics into a data set for training"),
    "train": ("nimbusguard.commands.train", "learn a policy on simulated clusters"),
    "evaluate": ("nimbusguard.commands.evaluate", "judge policies over real traffic"),
    "gate": ("nimbusguard.commands.gate", "decide whether a trained policy may be published"),
    "tune": ("nimbusguard.commands.tune", "search hyper-parameters here, or read Katib's best"),
    "pipeline": ("nimbusguard.commands.pipeline", "metrics to a gated, published model, in steps"),
    "experience": (
        "nimbusguard.commands.experience",
        "count, export or prune what the operator recorded",
    ),
    "schema": ("nimbusguard.commands.schema", "show the feature table and the fingerprint"),
}
"""Command name to the module that holds it and its line of help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 done, 1 it failed and said why, 2 wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="nimbusguard", description="Decide how many replicas a Kubernetes workload needs."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = arguments[0] if arguments else None
    for name, (module_name, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name == asked:
            importlib.import_module(module_name).configure(subparser)
    args = parser.parse_args(arguments)
    command = importlib.import_module(COMMANDS[args.command][0])
    try:
        return int(command.run(args))
    except NimbusGuardError as error:
        sys.stderr.write(f"nimbusguard {args.command}: {error}\n")
        return 1
