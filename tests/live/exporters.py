"""Stand-ins for the exporters that only a cluster has, about real processes of this machine.

- `/cadvisor`: CPU, memory and run-queue wait of each pod's process from /proc; bytes sent from the
  pod's own counter. The wait for a CPU stands in for throttling: no cgroup has a quota here. A pod
  with `cpu_quota` shows no more CPU than its limit, as one with a quota could not use more.
- `/kube-state-metrics`: owners, phases, limits and nodes, as the description of the pods says.
- `/node-exporter`: CPU and memory of this machine, which is the one node.

Run as `python tests/live/exporters.py PODS`, with a JSON file that describes the pods; each scrape
reads it. The first line of output is the port.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NODE = "node-1"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The first eight columns of a line of /proc/stat.
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

Pod = dict[str, Any]


class Quota:
    """CPU time as it would be under a limit that is enforced."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, float, float]] = {}
        """Process to moment, CPU time used, CPU time shown."""
        self._lock = threading.Lock()

    def shown_s(self, pid: int, used_s: float, limit: float, now_s: float) -> float:
        """CPU time to show of a process: since the last look, no more than its limit allowed.

        Args:
            pid: The process.
            used_s: CPU seconds that it has used.
            limit: Cores.
            now_s: Seconds on a clock that does not run backwards.
        """
        with self._lock:
            then_s, before_s, shown_s = self._last.get(pid, (now_s, used_s, used_s))
            shown_s += min(used_s - before_s, limit * (now_s - then_s))
            self._last[pid] = (now_s, used_s, shown_s)
            return shown_s


QUOTA = Quota()


def series(name: str, value: float, **labels: str) -> str:
    pairs = ", ".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value}"


def cadvisor(pods: list[Pod]) -> Iterator[str]:
    for pod in pods:
        process = Path("/proc") / str(pod["pid"])
        names = {"namespace": pod["namespace"], "pod": pod["pod"]}
        container = {**names, "container": "app", "id": f"/pod/{pod['pid']}"}
        # Columns 14 and 15 of stat, counted behind the name, which may hold spaces.
        columns = (process / "stat").read_text().rpartition(") ")[2].split()
        cpu_s = (int(columns[11]) + int(columns[12])) / TICKS_PER_S
        if pod["cpu_quota"]:
            cpu_s = QUOTA.shown_s(pod["pid"], cpu_s, pod["cpu_limit"], time.monotonic())
        resident = int((process / "statm").read_text().split()[1]) * PAGE_BYTES
        waited_s = int((process / "schedstat").read_text().split()[1]) / 1e9
        yield series("container_cpu_usage_seconds_total", cpu_s, **container)
        yield series("container_memory_working_set_bytes", resident, **container)
        yield series("container_cpu_cfs_throttled_seconds_total", waited_s, **container)
        # What a kubelet shows besides: the pause container and the sum over the pod.
        yield series("container_cpu_usage_seconds_total", cpu_s + 0.1, **names, id="/pod")
        yield series("container_memory_working_set_bytes", 5e5, **names, container="POD")
        sent = sent_bytes(pod["url"])
        yield series("container_network_transmit_bytes_total", sent, **names, interface="eth0")


def sent_bytes(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=1) as response:  # noqa: S310 - ours
        text = response.read().decode()
    line = next(line for line in text.splitlines() if line.startswith("service_sent_bytes_total "))
    return float(line.split()[1])


def kube_state_metrics(pods: list[Pod]) -> Iterator[str]:
    owned = {"owner_is_controller": "true"}
    for workload, namespace in sorted({(pod["workload"], pod["namespace"]) for pod in pods}):
        deployment = {"owner_kind": "Deployment", "owner_name": workload, **owned}
        names = {"namespace": namespace, "replicaset": f"{workload}-7d9f"}
        yield series("kube_replicaset_owner", 1, **names, **deployment)
    for pod in pods:
        names = {"namespace": pod["namespace"], "pod": pod["pod"]}
        owner = {"owner_kind": "ReplicaSet", "owner_name": f"{pod['workload']}-7d9f", **owned}
        yield series("kube_pod_owner", 1, **names, **owner)
        for phase in ("Pending", "Running", "Succeeded", "Failed", "Unknown"):
            yield series("kube_pod_status_phase", int(phase == "Running"), **names, phase=phase)
        ready = int(pod["ready"])
        yield series("kube_pod_status_ready", ready, **names, condition="true")
        yield series("kube_pod_info", 1, **names, node=NODE, host_ip="127.0.0.1")
        container = {**names, "container": "app"}
        yield series("kube_pod_container_info", 1, **container)
        for resource in ("cpu", "memory"):
            limit = pod[f"{resource}_limit"]
            yield series(
                "kube_pod_container_resource_limits", limit, **container, resource=resource
            )


def node_exporter(pods: list[Pod]) -> Iterator[str]:
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            for mode, count in zip(MODES, ticks, strict=False):
                labels = {"cpu": name.removeprefix("cpu"), "mode": mode}
                yield series("node_cpu_seconds_total", int(count) / TICKS_PER_S, **labels)
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, amount, *_ = line.split()
        if name in ("MemAvailable:", "MemTotal:"):
            yield f"node_memory_{name.rstrip(':')}_bytes {int(amount) * 1024}"


PAGES: dict[str, Callable[[list[Pod]], Iterator[str]]] = {
    "/cadvisor": cadvisor,
    "/kube-state-metrics": kube_state_metrics,
    "/node-exporter": node_exporter,
}


class Handler(BaseHTTPRequestHandler):
    """One page an exporter."""

    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        if page is None:
            self.send_error(404)
            return
        pods = json.loads(Path(sys.argv[1]).read_text())
        body = ("\n".join(page(pods)) + "\n").encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing for each scrape."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
