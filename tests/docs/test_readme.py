"""The README's first example, as a reader would run it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.service
def test_the_first_example_answers_as_printed() -> None:
    """`nimbusguard serve` and the README's curl command give the README's answer."""
    text = README.read_text()
    command = re.search(r"^\$ (curl .*?)\n```", text, re.DOTALL | re.MULTILINE)
    printed = re.search(r"<!-- answer -->\n```json\n(.*?)```", text, re.DOTALL)
    assert command
    assert printed
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "predictor-http", "predictor-grpc")]
    with subprocess.Popen(
        [sys.executable, "-m", "nimbusguard", "serve", *ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[1]

            answer = subprocess.run(
                ["bash", "-c", command[1].replace("http://127.0.0.1:8080", url)],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            ).stdout

            got, expected = json.loads(answer), json.loads(printed[1])
            q_values = got["predictions"][0].pop("q_values")
            assert q_values == pytest.approx(expected["predictions"][0].pop("q_values"), abs=1e-5)
            margin = got["predictions"][0].pop("q_margin")
            assert margin == pytest.approx(expected["predictions"][0].pop("q_margin"), abs=1e-5)
            assert got == expected
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
