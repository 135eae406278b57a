"""The stand-ins as a process of their own, and an operator that is led to them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.live.processes import Process, start


def environment_of(line: str) -> dict[str, str]:
    """What leads an operator to the stand-ins that printed this line; it takes a free port."""
    kube, prometheus, kserve = line.split()
    return {
        "KSERVE_ENDPOINT": kserve,
        "PROMETHEUS_ENDPOINT": prometheus,
        "AUTOSCALER_KUBE_API": kube,
        "AUTOSCALER_LISTEN": "127.0.0.1",
        "AUTOSCALER_PORT": "0",
    }


class Operator(NamedTuple):
    """A running operator, and where it listens."""

    process: Process
    url: str


@contextmanager
def stand_ins(policies: int) -> Iterator[dict[str, str]]:
    """API server, Prometheus and KServe with so many policies; the environment that leads there."""
    process = start([sys.executable, "-m", "tests.standin", str(policies)], stdin=True)
    try:
        yield environment_of(process.first_line())
    finally:
        process.end()


def operator(environment: dict[str, str], log: Path) -> Operator:
    """Start `python -m autoscaler`, for the caller to end."""
    process = start([sys.executable, "-m", "autoscaler"], environ=environment, log=log)
    try:
        line = process.first_line()
    except AssertionError:
        process.end()
        raise AssertionError(log.read_text()) from None
    assert line.startswith("listening on port "), line
    return Operator(process, f"http://127.0.0.1:{line.split()[-1]}")
