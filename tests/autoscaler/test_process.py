"""`python -m autoscaler` as the kubelet runs it: environment, signals, exit status, log lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from autoscaler.experience import ExperienceStore, Range

pytestmark = pytest.mark.service
POLICIES = 20


def environment_of(line: str) -> dict[str, str]:
    """What leads an operator to the stand-ins that printed this line."""
    kube, prometheus, kserve = line.split()
    return {
        "KSERVE_ENDPOINT": kserve,
        "PROMETHEUS_ENDPOINT": prometheus,
        "AUTOSCALER_KUBE_API": kube,
        "AUTOSCALER_LISTEN": "127.0.0.1",
        "AUTOSCALER_PORT": "0",
    }


@contextmanager
def stand_ins(policies: int) -> Iterator[dict[str, str]]:
    """Stand-ins as a process of their own, and the environment that leads to them."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.standin", str(policies)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as standin:
        assert standin.stdin is not None
        assert standin.stdout is not None
        try:
            yield environment_of(standin.stdout.readline())
        finally:
            standin.stdin.close()
            standin.wait(20)


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with stand_ins(POLICIES) as environment:
        yield environment


def started(environment: dict[str, str], log: Path) -> tuple[subprocess.Popen[str], int]:
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "autoscaler"],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on port "), log.read_text()
    return process, int(line.split()[-1])


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        return str(response.read().decode())


def decisions(port: int) -> float:
    lines = page(port).splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("nimbusguard_operator_decisions_total")
    )


def test_it_starts_decides_and_ends_on_sigterm(cluster: dict[str, str], tmp_path: Path) -> None:
    """Exit status 0, and every line of the log is JSON."""
    log = tmp_path / "log.jsonl"
    process, port = started(cluster | {"AUTOSCALER_IDENTITY": "a"}, log)
    try:
        ends = time.monotonic() + 40.0
        while decisions(port) < POLICIES:
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
    finally:
        process.kill()
        process.communicate()

    assert status == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def test_a_killed_leader_is_replaced_within_its_lease(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    """Kill -9: the lease ends after 15 s, and the other goes on where it was.

    Neither was given a name: two processes of one host are two candidates.
    """
    first, port = started(cluster, tmp_path / "one.jsonl")
    try:
        ends = time.monotonic() + 40.0
        while "nimbusguard_operator_is_leader 1.0" not in page(port):
            assert time.monotonic() < ends
            time.sleep(0.05)
        second, other = started(cluster, tmp_path / "two.jsonl")
        try:
            time.sleep(2.5)
            assert "nimbusguard_operator_is_leader 0.0" in page(other)
            first.kill()
            killed = time.monotonic()
            while "nimbusguard_operator_is_leader 1.0" not in page(other):
                assert time.monotonic() - killed < 25.0
                time.sleep(0.1)
            took = time.monotonic() - killed
        finally:
            second.terminate()
            second.communicate()
    finally:
        first.kill()
        first.communicate()

    assert took > 10.0


def acknowledged(port: int) -> float:
    """Rows that the operator says are in its store."""
    found = re.search(r'^nimbusguard_experience_rows_total{result="ok"} (\S+)$', page(port), re.M)
    return float(found[1]) if found else 0.0


def test_a_killed_operator_has_lost_no_row_that_it_acknowledged(tmp_path: Path) -> None:
    """The whole process, at random moments; the store itself is killed a hundred times."""
    rng, file = np.random.default_rng(9), tmp_path / "experience.db"
    with stand_ins(200) as environment:
        environment["AUTOSCALER_EXPERIENCE_STORE"] = str(file)
        environment["AUTOSCALER_IDENTITY"] = "pod"  # a container that is started anew
        kept = 0
        for number in range(4):
            process, port = started(environment, tmp_path / f"{number}.jsonl")
            try:
                ends = time.monotonic() + 40.0
                while not acknowledged(port):
                    assert time.monotonic() < ends
                    time.sleep(0.05)
                time.sleep(rng.uniform(0.0, 2.0))  # the moment of the kill
                said = acknowledged(port)
            finally:
                process.kill()
                process.communicate()
            with ExperienceStore(file) as store:
                stats, rows = store.stats(), list(store.read(Range(1, 2**62)))
            ids = [decision.decision_id for _, decision, _ in rows]
            assert len(ids) == len(set(ids))
            assert stats.decisions + stats.with_outcome - kept >= said > 0
            kept = stats.decisions + stats.with_outcome


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PROMETHEUS_ENDPOINT": ""}, "PROMETHEUS_ENDPOINT: expected a URL"),
        ({"AUTOSCALER_POTR": "1"}, "AUTOSCALER_POTR: no such setting"),
        ({"AUTOSCALER_KUBE_API": ""}, "outside of one set AUTOSCALER_KUBE_API"),
        ({"KSERVE_ENDPOINT": "nowhere"}, "KSERVE_ENDPOINT: expected a URL"),
        ({"AUTOSCALER_EXPERIENCE_STORE": "/proc/x.db"}, "/proc/x.db: expected a file"),
    ],
)
def test_a_mistake_in_the_environment_stops_the_start(
    cluster: dict[str, str], change: dict[str, str], message: str
) -> None:
    """One line that says what to do, exit status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "autoscaler"],
        env=os.environ | cluster | change,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_watch_that_ends_by_itself_ends_the_operator(tmp_path: Path) -> None:
    """The kubelet starts it anew, rather than leave it blind."""
    program = (
        "import asyncio, sys, threading\n"
        "from autoscaler import run, __main__ as program\n"
        "async def gone(*args, **kwargs): pass\n"
        "run.watch = gone\n"
        "from autoscaler.kube import ClusterAccess\n"
        "from autoscaler.settings import OperatorSettings\n"
        "from nimbusguard.settings import Settings\n"
        "own = OperatorSettings(listen='127.0.0.1', port=0)\n"
        "shared = Settings(prometheus_endpoint='http://127.0.0.1:9')\n"
        "access = ClusterAccess(server='http://127.0.0.1:9')\n"
        "sys.exit(asyncio.run(program.main(shared, own, access)))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)

    assert done.returncode == 1
