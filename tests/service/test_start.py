"""Starts that must not succeed: the process ends with 1, and the last line of its log says why."""

from __future__ import annotations

import json
import socket
import subprocess

import pytest

from tests.service.processes import clean_environ, command

pytestmark = pytest.mark.service


def last_words(module: str, *flags: str, **environ: str) -> str:
    """The last line of a start that fails."""
    result = subprocess.run(
        command(module, "--http_port=0", "--grpc_port=0", *flags),
        capture_output=True,
        text=True,
        env=clean_environ(environ),
        check=False,
        timeout=60,
    )
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert not any("traceback" in line for line in lines)
    assert lines[-1]["level"] == "critical"
    message: str = lines[-1]["message"]
    return message


@pytest.mark.parametrize("module", ["predictor", "transformer"])
def test_more_than_one_worker_is_refused_with_the_reason(module: str) -> None:
    """The controller asks for it when a transformer has `containerConcurrency`."""
    flags = ["--workers=2"] + (["--predictor_host=p"] if module == "transformer" else [])

    message = last_words(module, *flags)

    assert "--workers: expected 1, got 2" in message
    assert "cannot be sent to a worker process" in message
    assert "use more replicas instead" in message


def test_a_misspelt_setting_stops_the_start() -> None:
    """With the names that exist."""
    message = last_words("predictor", NIMBUSGUARD_MAX_ROW="5")

    assert "NIMBUSGUARD_MAX_ROW: no such setting; expected one of" in message
    assert "NIMBUSGUARD_MAX_ROWS" in message


def test_a_port_that_is_taken_stops_the_start() -> None:
    """Two servers on one port would share its callers by chance."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = last_words("predictor", f"--http_port={port}")

    assert "address already in use" in message.lower()


def test_a_transformer_without_a_predictor_does_not_start() -> None:
    """The controller always names one."""
    assert "--predictor_host: expected a host or host:port, got ''" in last_words("transformer")
