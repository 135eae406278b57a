"""What `decide` and `explain` share: what is asked, of whom, and the flags that say so."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.settings import from_environ

LOCAL_ENDPOINT: Final = "http://127.0.0.1:8080"
"""Where `nimbusguard serve` listens."""


def add_flags(parser: argparse.ArgumentParser, *, endpoint: str, printed: str) -> None:
    """Declare the payload, the transformer and the form of the answer.

    Args:
        parser: Of the command.
        endpoint: Which transformer it is by default, in the words of the help.
        printed: What is printed by default, as well.
    """
    parser.add_argument(
        "payload",
        nargs="?",
        help="JSON file of one instance, or of a body with `instances`; default stdin",
    )
    parser.add_argument("--endpoint", metavar="URL", help=f"the transformer; default {endpoint}")
    parser.add_argument("--json", action="store_true", help=f"print JSON instead of {printed}")


def default_endpoint(environ: Mapping[str, str]) -> str:
    """The transformer that the environment names, else the one that `nimbusguard serve` starts."""
    # The settings' own default is a name that resolves inside a cluster only.
    is_set = environ.get("KSERVE_ENDPOINT", "").strip()
    return from_environ(environ).kserve_endpoint if is_set else LOCAL_ENDPOINT


def read_payload(payload: str | None) -> dict[str, list[Any]]:
    """A payload as a body: one as the transformer takes it, or of one instance alone.

    Args:
        payload: Path of a JSON file; None or `-` for standard input.

    Raises:
        InvalidRequest: It cannot be read, or is no JSON.
    """
    name = "standard input" if payload in (None, "-") else str(payload)
    try:
        text = sys.stdin.buffer.read() if payload in (None, "-") else Path(name).read_bytes()
        document = orjson.loads(text)
    except OSError as exc:
        message = f"{name}: expected a readable file, got: {exc.strerror}"
        raise InvalidRequest(message) from exc
    except orjson.JSONDecodeError as exc:
        message = f"{name}: expected JSON, got: {exc}"
        raise InvalidRequest(message) from exc
    if isinstance(document, dict) and isinstance(document.get("instances"), list):
        return {"instances": document["instances"]}
    if isinstance(document, dict) and isinstance(document.get("cluster_state"), dict):
        beside = {key: value for key, value in document.items() if key != "cluster_state"}
        return {"instances": [{**document["cluster_state"], **beside}]}
    return {"instances": [document]}
