"""`nimbusguard schema`: the feature table, for people and as JSON."""

from __future__ import annotations

import argparse
import sys

import orjson

from nimbusguard.contract.fingerprint import FINGERPRINT, action_table, feature_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print the table; exit status 0."""
    if args.json:
        document = {
            "features": feature_table(),
            "actions": action_table(),
            "fingerprint": FINGERPRINT,
        }
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        return 0

    from rich.console import Console
    from rich.table import Table

    table = Table("#", "feature", "unit", "min", "max", "when absent", title="State")
    for index, row in enumerate(feature_table()):
        bounds = (f"{row['min']:g}", f"{row['max']:g}")
        table.add_row(str(index), row["name"], row["unit"], *bounds, row["absent"])
    actions = Table("#", "action", "replicas", title="Actions")
    for index, row in enumerate(action_table()):
        actions.add_row(str(index), row["name"], f"{row['change']:+d}")
    console = Console()
    console.print(table, actions)
    console.print(f"fingerprint {FINGERPRINT}", soft_wrap=True)
    return 0
