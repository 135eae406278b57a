"""`docs/api.md`: every example is run against the real servers, and nothing is left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.service.processes import ROOT, Server
from tests.service.wire import Wire

pytestmark = pytest.mark.service

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
_BLOCK = re.compile(r"```(console|python)\n(.*?)```\n\n```(?:json|text)\n(.*?)```", re.DOTALL)
_TOLERANCE = 1e-5


class Example(NamedTuple):
    """One example and what is printed below it."""

    language: str
    source: str
    printed: str


def examples() -> list[Example]:
    return [Example(*groups) for groups in _BLOCK.findall(PAGE.read_text())]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.source[:60])
def test_an_example_does_as_it_says(
    example: Example, predictor: Server, transformer: Server, tmp_path: Path
) -> None:
    """Numbers within 1e-5, all else to the letter."""
    source = example.source
    for port, actual in (
        (8080, transformer.http_port),
        (8081, transformer.grpc_port),
        (8082, predictor.http_port),
        (8083, predictor.grpc_port),
    ):
        source = source.replace(f"127.0.0.1:{port}", f"127.0.0.1:{actual}")
    if example.language == "console":
        command = ["bash", "-c", source.removeprefix("$ ")]
    else:
        command = [sys.executable, "-c", source]

    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert result.returncode == 0, result.stderr
    assert parts_of(result.stdout) == [
        pytest.approx(part, abs=_TOLERANCE) if isinstance(part, float) else part
        for part in parts_of(example.printed)
    ]


def test_every_block_of_code_is_an_example() -> None:
    """None stands without what it prints, so that none goes unchecked."""
    text = PAGE.read_text()

    assert len(re.findall(r"^```(?:console|python)$", text, re.MULTILINE)) == len(examples()) > 25


def test_every_route_is_on_the_page(either_service: Server) -> None:
    """The paths that both servers describe, and no others."""
    with Wire(either_service.http_port) as wire:
        paths = wire.ask("GET", "/openapi.json").json()["paths"]
    described = {
        (method.upper(), path)
        for path, item in paths.items()
        for method in item
        if method != "parameters"
    }

    table = re.findall(r"^\| (GET|POST) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)

    assert set(table) == described


def parts_of(text: str) -> list[Any]:
    """An output as a flat list of comparable parts: JSON by its leaves, all else by its lines."""
    parts: list[Any] = []
    decoder = json.JSONDecoder()
    rest = text.strip()
    while rest:
        try:
            document, end = decoder.raw_decode(rest)
        except json.JSONDecodeError:
            return [*parts, *rest.splitlines()]
        parts += leaves_of(document, "")
        rest = rest[end:].strip()
    return parts


def leaves_of(value: Any, path: str) -> list[Any]:
    """Every leaf behind its path."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves_of(value[key], f"{path}.{key}")]
    if isinstance(value, list):
        return [f"{path}: {len(value)}", *(leaf for v in value for leaf in leaves_of(v, path))]
    return [path, value]
