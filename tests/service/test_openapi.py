"""The description that each server gives of itself is valid, complete and true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.service.processes import MODEL, VERSION, Server, clean_environ
from tests.service.wire import Wire

pytestmark = pytest.mark.service

EXAMPLES_EACH = 10


def description(server: Server) -> Any:
    with Wire(server.http_port) as wire:
        return wire.ask("GET", "/openapi.json").json()


def test_the_description_is_valid_openapi(either_service: Server) -> None:
    """Of version 3.1."""
    document = description(either_service)

    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


def test_its_examples_are_answered(either_service: Server) -> None:
    """Each request body of the description, as it stands there, by every path that takes it."""
    paths = description(either_service)["paths"]
    posts = {path: item["post"] for path, item in paths.items() if "post" in item}

    assert len(posts) == 4
    with Wire(either_service.http_port) as wire:
        for path, operation in posts.items():
            example = operation["requestBody"]["content"]["application/json"]["example"]
            answer = wire.ask(
                "POST", path.replace("{version}", VERSION), json.dumps(example).encode()
            )
            assert answer.status == 200, answer.body


def test_every_described_path_is_there(either_service: Server) -> None:
    """And each answers another method with 405."""
    paths = description(either_service)["paths"]

    with Wire(either_service.http_port) as wire:
        for path, item in paths.items():
            answer = wire.ask("DELETE", path.replace("{version}", VERSION))
            assert answer.status == 405
            described = {method.upper() for method in item} - {"PARAMETERS"}
            assert described <= set(answer.headers["allow"].split(", "))
    assert f"/v1/models/{MODEL}:predict" in paths


def test_schemathesis_finds_nothing(either_service: Server, tmp_path: Path) -> None:
    """Hundreds of generated requests, the same each time: no 500, nothing but what is described.

    Left out is the check that whatever a schema allows is accepted: that a tensor has as many
    numbers as its shape says, or that a minimum lies below a maximum, no JSON schema can say.
    """
    flags = [
        "--phases=examples,coverage,fuzzing",
        "--checks=all",
        "--exclude-checks=positive_data_acceptance",
        f"--max-examples={EXAMPLES_EACH}",
        "--generation-deterministic",
        "--warnings=off",
        "--no-color",
    ]
    result = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            *(*flags, f"{either_service.url}/openapi.json"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=clean_environ(),
        check=False,
        timeout=240,
    )

    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert "Tested: 16" in result.stdout
