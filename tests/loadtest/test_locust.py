"""Locust itself against real servers: a scenario that holds, and one that does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.__main__ import serving
from model_store.packaged import packaged_store

pytestmark = [pytest.mark.service, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """One pair of servers."""
    with serving() as url:
        yield url


def run(host: str, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`python -m loadtest`, as `make loadtest` calls it."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest", "--host", host, "--output", str(output), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_a_steady_load_for_twenty_seconds_holds(host: str, tmp_path: Path) -> None:
    """Status 0, a report that can be looked at, requests named by the version that answered."""
    result = run(host, tmp_path, "--seconds", "20", "--max-p99-ms", "1000", "--min-rate", "50")

    assert result.returncode == 0, result.stderr
    assert "<html" in (tmp_path / "steady.html").read_text()
    served = packaged_store().resolve("nimbusguard-dqn", "production")
    assert f":predict version {served}" in (tmp_path / "steady_stats.csv").read_text()


def test_a_missed_threshold_ends_with_status_1_and_says_which(host: str, tmp_path: Path) -> None:
    """A rate that fifty paced users cannot reach."""
    result = run(host, tmp_path, "--seconds", "5", "--min-rate", "100000")

    assert result.returncode == 1
    assert "missed: rate: expected 100000 requests/s or more" in result.stderr


def test_a_server_that_is_not_there_fails_the_test(tmp_path: Path) -> None:
    """Nothing answered is not a pass."""
    result = run("http://127.0.0.1:9", tmp_path, "--seconds", "3")

    assert result.returncode == 1
