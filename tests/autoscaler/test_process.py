"""`python -m autoscaler` as the kubelet runs it: environment, signals, exit status, log lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from autoscaler.experience import ExperienceStore, Range
from tests.live.processes import wait_until
from tests.standin.process import operator, stand_ins

pytestmark = pytest.mark.service
POLICIES = 20
START_S = 40.0
"""Until an operator has done its first work, interval of 15 s included, on a busy machine."""
LEASE_S = 15.0
STEPS_DOWN_S = 10.0
"""After which a leader that cannot renew stops by itself; nobody may lead before."""
SLACK_S = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with stand_ins(POLICIES) as environment:
        yield environment


def page(url: str) -> str:
    return httpx.get(f"{url}/metrics", trust_env=False).text


def is_ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", trust_env=False).is_success


def leads(url: str) -> bool:
    return "nimbusguard_operator_is_leader 1.0" in page(url)


def decisions(url: str) -> float:
    lines = page(url).splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("nimbusguard_operator_decisions_total")
    )


def test_it_starts_decides_and_ends_on_sigterm(cluster: dict[str, str], tmp_path: Path) -> None:
    """Exit status 0, and every line of the log is JSON."""
    log = tmp_path / "log.jsonl"
    process, url = operator(cluster | {"AUTOSCALER_IDENTITY": "a"}, log)
    try:
        wait_until("each policy was decided for", lambda: decisions(url) >= POLICIES, START_S)
        process.popen.send_signal(signal.SIGTERM)
        status = process.popen.wait(30)
    finally:
        process.end()

    assert status == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def test_a_killed_leader_is_replaced_within_its_lease(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    """Kill -9: the lease ends after 15 s, and the other goes on where it was.

    Neither was given a name: two processes of one host are two candidates.
    """
    first, url = operator(cluster, tmp_path / "one.jsonl")
    try:
        wait_until("the first leads", lambda: leads(url), START_S)
        second, other = operator(cluster, tmp_path / "two.jsonl")
        try:
            wait_until("the second knows the policies", lambda: is_ready(other), START_S)
            decided = decisions(url)
            wait_until("the first goes on", lambda: decisions(url) >= decided + POLICIES, START_S)
            assert not leads(other)
            first.popen.kill()
            killed_s = time.monotonic()
            wait_until("the second leads", lambda: leads(other), LEASE_S + SLACK_S)
            took_s = time.monotonic() - killed_s
        finally:
            second.end()
    finally:
        first.end()

    assert took_s > STEPS_DOWN_S


def acknowledged(url: str) -> float:
    """Rows that the operator says are in its store."""
    found = re.search(r'^nimbusguard_experience_rows_total{result="ok"} (\S+)$', page(url), re.M)
    return float(found[1]) if found else 0.0


def test_a_killed_operator_has_lost_no_row_that_it_acknowledged(tmp_path: Path) -> None:
    """The whole process, at random moments; the store itself is killed a hundred times."""
    rng, file = np.random.default_rng(9), tmp_path / "experience.db"
    with stand_ins(200) as environment:
        environment["AUTOSCALER_EXPERIENCE_STORE"] = str(file)
        environment["AUTOSCALER_IDENTITY"] = "pod"  # a container that is started anew
        kept = 0
        for number in range(4):
            process, url = operator(environment, tmp_path / f"{number}.jsonl")
            try:
                wait_until("a row", lambda at=url: acknowledged(at) > 0, START_S)
                time.sleep(rng.uniform(0.0, 2.0))  # the moment of the kill
                said = acknowledged(url)
            finally:
                process.popen.kill()
                process.popen.communicate()
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
