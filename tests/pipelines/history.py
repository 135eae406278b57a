"""A real Prometheus with a past: samples of hours ago, written into its storage by promtool."""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import yaml
from numpy.typing import NDArray

from tests.live.processes import start, wait_until
from tests.live.programs import program

STEP_S = 15
END_S = 1_780_000_005 // STEP_S * STEP_S
"""A fixed moment; Prometheus keeps it whatever the clock says, as its retention is by size."""
NAMESPACE, WORKLOAD = "shop", "web"
SERVICE_TIME_S = 0.05
STARTUP_S = 14.0
_LABELS = f'namespace="{NAMESPACE}",workload="{WORKLOAD}"'

Columns = dict[str, NDArray[np.float64]]
"""Feature to its values (T,); NaN is no sample."""


def day(hours: float) -> Columns:
    """What a healthy workload looks like: load that rises and falls, pods that follow it."""
    steps = round(hours * 3600 / STEP_S)
    rate = 120.0 + 80.0 * np.sin(np.arange(steps) / steps * 4 * math.pi)
    busy = rate * SERVICE_TIME_S
    pods = np.ceil(busy / 0.7)
    flat = np.ones(steps)
    return {
        "cpu_utilization": busy / pods,
        "memory_utilization": 0.4 * flat,
        "network_io_rate": rate * 1000.0,
        "request_rate": rate,
        "pod_count": pods,
        "response_time_p95": 0.12 * flat,
        "error_rate": 0.0 * flat,
        "queue_depth": busy,
        "cpu_throttling": 0.0 * flat,
        "memory_pressure": 0.5 * flat,
        "node_utilization": 0.4 * flat,
    }


def times(steps: int) -> NDArray[np.int64]:
    """The steps that end at `END_S`."""
    return END_S - STEP_S * np.arange(steps, 0, -1)


def open_metrics(
    columns: Mapping[str, NDArray[np.float64]],
    *,
    resets: Sequence[int] = (),
    replicas: Mapping[str, NDArray[np.float64]] | None = None,
) -> str:
    """Samples as promtool reads them.

    Args:
        columns: The features.
        resets: Steps at which the one pod's request counter starts anew.
        replicas: Features that a second Prometheus recorded too, with a label of its own.
    """
    steps = len(next(iter(columns.values())))
    moments = times(steps)
    lines = []
    for name, values in columns.items():
        lines += _series(f"nimbusguard:{name}{{{_LABELS}}}", values, moments)
        if replicas and name in replicas:
            lines += _series(
                f'nimbusguard:{name}{{{_LABELS},prometheus="b"}}', replicas[name], moments
            )
    counter = _counter(columns["request_rate"], resets)
    pod = f'namespace="{NAMESPACE}",pod="web-1"'
    for name, values in (
        (f"http_requests_total{{{pod}}}", counter),
        (f'pod:nimbusguard_workload:owner{{{pod},workload="{WORKLOAD}"}}', np.ones(steps)),
        (f"kube_pod_created{{{pod}}}", np.full(steps, 1e9)),
        (f"kube_pod_status_ready_time{{{pod}}}", np.full(steps, 1e9 + STARTUP_S)),
    ):
        lines += _series(name, values, moments)
    return "\n".join([*lines, "# EOF\n"])


def _counter(rate: NDArray[np.float64], resets: Sequence[int]) -> NDArray[np.float64]:
    total, values = 0.0, np.empty(len(rate))
    for step, each in enumerate(np.nan_to_num(rate)):
        total = 0.0 if step in resets else total + each * STEP_S
        values[step] = total
    return values


def _series(name: str, values: NDArray[np.float64], moments: NDArray[np.int64]) -> list[str]:
    return [
        f"{name} {value!r} {moment}"
        for value, moment in zip(values.tolist(), moments.tolist(), strict=True)
        if not math.isnan(value)
    ]


@dataclass(frozen=True, slots=True)
class History:
    """A Prometheus that answers."""

    url: str


@contextlib.contextmanager
def prometheus(
    folder: Path, text: str | None = None, scrape: Sequence[Mapping[str, object]] = ()
) -> Iterator[History]:
    """Prometheus with these samples in its storage; ended with the block."""
    data = folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    if text is not None:
        (folder / "history.txt").write_text(text)
        command = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics"]
        subprocess.run(
            [*command, str(folder / "history.txt"), str(data)],
            check=True,
            capture_output=True,
            timeout=60,
        )
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump({"scrape_configs": list(scrape)}))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = [f"--config.file={config}", f"--storage.tsdb.path={data}", "--log.level=warn"]
    # By size alone: by time, blocks of long ago would be removed.
    flags += [f"--web.listen-address={address}", "--storage.tsdb.retention.size=1GB"]
    process = start([program("prometheus"), *flags], log=folder / "prometheus.log")
    try:
        wait_until("Prometheus is ready", lambda: answers(f"http://{address}/-/ready"), 30)
        yield History(f"http://{address}")
    finally:
        process.end()


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def number(url: str, query: str) -> float | None:
    """What an instant query gives, if it gives one number."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10, trust_env=False)
    result = answer.json()["data"]["result"]
    return float(result[0]["value"][1]) if len(result) == 1 else None
