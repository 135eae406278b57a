"""`make isvc-up` and `make isvc-down`: one overlay, running on this machine without a cluster."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

import httpx

from tests.images.toolchain import ROOT, build_all, run
from tests.isvc.layout import OPERATORS_NAME, make_cluster, make_network
from tests.manifests.rendering import OVERLAYS, render_overlay

FOLDER = ROOT / "runs" / "isvc"
PATH = "/v1/models/nimbusguard-dqn:predict"
INSTANCE = {
    "cpu_utilization": 0.82,
    "memory_utilization": 0.5,
    "network_io_rate": 120000,
    "request_rate": 210,
    "pod_count": 4,
    "response_time_p95": 0.4,
    "error_rate": 0.002,
    "queue_depth": 12,
    "cpu_throttling": 0.1,
    "memory_pressure": 0.4,
    "node_utilization": 0.6,
}


def up(overlay: str) -> int:
    """Build the images, start the pods and the names, ask for one decision."""
    for built in build_all().values():
        sys.stdout.write(f"built {built.reference}\n")
    down()
    documents = render_overlay(overlay)
    FOLDER.mkdir(parents=True, exist_ok=True)
    network = make_network(documents, FOLDER)
    network.start()
    assert network.process is not None
    (FOLDER / "haproxy.pid").write_text(str(network.process.pid))
    cluster = make_cluster(network, ROOT / "model_store" / "default")
    cluster.apply(documents)
    for name, pods in cluster.pods.items():
        for pod in pods:
            sys.stdout.write(f"ready {name} {pod.address}\n")
    address = network.hosts[OPERATORS_NAME]
    answer = httpx.post(
        f"http://{address}{PATH}", headers={"Host": OPERATORS_NAME}, json={"instances": [INSTANCE]}
    )
    sys.stdout.write(
        f"{answer.status_code} {answer.text}\n\nAsk yourself, then `make isvc-down`:\n"
    )
    sys.stdout.write(
        f"curl --resolve {OPERATORS_NAME}:80:{address} http://{OPERATORS_NAME}{PATH} "
        "-d '{\"instances\": [[0.82, 0.5, 120000, 210, 4, 0.4, 0.002, 12, 0.1, 0.4, 0.6]]}'\n"
    )
    return 0 if answer.status_code == httpx.codes.OK else 1


def down() -> int:
    """Remove what an earlier `up` started, by its label and its recorded process id."""
    pid = FOLDER / "haproxy.pid"
    if pid.exists():
        number = int(pid.read_text())
        named = subprocess.run(
            ["ps", "-o", "comm=", "-p", str(number)], capture_output=True, text=True, check=False
        )
        if named.stdout.strip() == "haproxy":
            os.kill(number, signal.SIGTERM)
        pid.unlink()
    listed = run(
        "podman", "ps", "--all", "--quiet", "--filter", "label=nimbusguard.io/isvc=127.77.0"
    )
    for container in listed.split():
        run("podman", "rm", "--force", "--time", "30", container)
        sys.stdout.write(f"removed {container}\n")
    return 0


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.isvc", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up")
    starting.add_argument("--overlay", choices=OVERLAYS, default="local")
    commands.add_parser("down")
    args = parser.parse_args()
    return up(args.overlay) if args.command == "up" else down()


if __name__ == "__main__":
    raise SystemExit(main())
