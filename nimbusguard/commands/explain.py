"""`nimbusguard explain`: why the network decides as it does, as bars."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson

from nimbusguard.client.endpoint import Endpoint
from nimbusguard.commands.asking import add_flags, default_endpoint, read_payload
from nimbusguard.contract.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

_TIMEOUT_S: Final = 10.0
"""Above the servers' own deadline of 2 s, so that they say what kept them."""
_WIDTH: Final = 6
"""Characters of the longest bar on either side of zero: all columns fit into 80."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_flags(parser, endpoint="as for `nimbusguard decide`", printed="bars")


def run(args: argparse.Namespace) -> int:
    """Ask for the explanations and print them; exit status 0."""
    environ: Mapping[str, str] = os.environ  # noqa: TID251 - handed on to settings
    endpoint = Endpoint.parse(args.endpoint or default_endpoint(environ))
    answer = ask(endpoint.explain_url, read_payload(args.payload))
    if args.json:
        sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")
        return 0
    from rich.console import Console

    console = Console()
    for decision, explanation in zip(answer["predictions"], answer["explanations"], strict=True):
        console.print(explanation["sentence"], style="bold", highlight=False)
        console.print(_table(explanation))
        console.print(
            f"{decision['model_name']} version {decision['model_version']}; "
            f"{explanation['method']} against a calm workload, off by "
            f"{explanation['completeness_error']:.1e}",
            soft_wrap=True,
            highlight=False,
        )
    return 0


def ask(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a transformer.

    Raises:
        Unavailable: It cannot be reached, or refuses; the message is its own.
    """
    try:
        response = httpx.post(url, json=body, timeout=_TIMEOUT_S)
        document = response.json()
    except (httpx.HTTPError, ValueError) as exc:
        message = f"{url}: expected a transformer's explanation, got {exc}"
        raise Unavailable(message) from exc
    if response.status_code != httpx.codes.OK or "explanations" not in document:
        said = document.get("error", document) if isinstance(document, dict) else document
        message = f"{url}: answered {response.status_code}: {said}"
        raise Unavailable(message)
    return dict(document)


def _table(explanation: Mapping[str, Any]) -> RenderableType:
    """Each feature with what it adds to the Q-value, the strongest first.

    Beside that stands what it says for the action over the next best, which the sentence tells:
    what lowers the worth of every action may still speak for this one.
    """
    from rich.table import Table
    from rich.text import Text

    features: Sequence[Mapping[str, Any]] = sorted(
        explanation["features"], key=lambda feature: -abs(feature["attribution"])
    )
    longest = max(abs(feature["attribution"]) for feature in features) or 1.0
    title = (
        f"{explanation['action']}: Q-value {explanation['q_value']:.4f}, "
        f"of the calm workload {explanation['baseline_q_value']:.4f}"
    )
    rival = explanation["next_best_action"]
    if rival is not None:
        title = f"{title};\n`for it` is what speaks for it over {rival}, the next best"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    signed = {"for it": "preference"} if rival is not None else {}
    signed["adds"] = "attribution"
    for name in ("feature", "value", "calm", *signed):
        table.add_column(name, no_wrap=True, justify="right" if name in signed else "left")
    table.add_column("", no_wrap=True)
    for feature in features:
        added = feature["attribution"]
        numbers = (f"{feature[key]:+.4f}" for key in signed.values())
        table.add_row(
            feature["name"],
            f"{feature['value']:.4g} {feature['unit']}",
            f"{feature['baseline']:.4g}",
            *numbers,
            Text(bar(added / longest), style="green" if added > 0 else "red"),
        )
    return table


def bar(share: float, width: int = _WIDTH) -> str:
    """A bar from the middle of a line: to the right for what adds, to the left for what takes.

    Args:
        share: Length in [-1, 1].
        width: Characters of a full bar; the line has twice as many and one for zero.
    """
    eighths = round(abs(share) * width * 8)
    full, rest = divmod(eighths, 8)
    if share < 0:  # there are no characters that fill from the right: whole ones alone
        return ("█" * round(abs(share) * width)).rjust(width) + "│"
    return " " * width + "│" + "█" * full + _EIGHTHS[rest].strip()
