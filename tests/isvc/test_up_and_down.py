"""`make isvc-up` and `make isvc-down`, as a reader of the README runs them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.toolchain import ROOT, run
from tests.isvc.layout import LABEL, POD_SUBNET

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]


def isvc(*command: str) -> str:
    """`python -m tests.isvc`, as the targets call it."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.isvc", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2400,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_up_answers_a_prediction_and_down_removes_everything(tmp_path: Path) -> None:
    """The printed curl command works as printed; afterwards no container and no file is left."""
    folder = tmp_path / "isvc"
    try:
        printed = isvc("--folder", str(folder), "up", "--overlay", "local")
        command = shlex.split(printed.splitlines()[-1])
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        proxy = Path("/proc", (folder / "haproxy.pid").read_text(), "comm")
        running = proxy.read_text()
    finally:
        isvc("--folder", str(folder), "down")

    assert "200 {" in printed
    assert '"target_replicas"' in answer.stdout
    assert running == "haproxy\n"
    assert not folder.exists()
    assert run("podman", "ps", "-aq", "--filter", f"label={LABEL}={POD_SUBNET}") == ""
