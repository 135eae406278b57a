"""`make isvc-up` and `make isvc-down`: one overlay, running on this machine without a cluster."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

import httpx

from tests.images.container import wait_until
from tests.images.toolchain import ROOT, build_all
from tests.isvc.layout import (
    OPERATORS_NAME,
    POD_SUBNET,
    make_cluster,
    make_network,
    remove_pods,
)
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


def up(overlay: str, folder: Path) -> int:
    """Build the images, start the pods and the names, ask for one decision."""
    for built in build_all(("predictor", "transformer")).values():
        sys.stdout.write(f"built {built.reference}\n")
    down(folder)
    documents = render_overlay(overlay)
    folder.mkdir(parents=True, exist_ok=True)
    network = make_network(documents, folder)
    network.start()
    assert network.process is not None
    (folder / "haproxy.pid").write_text(str(network.process.pid))
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


def down(folder: Path) -> int:
    """Remove what an earlier `up` started, by its label and its recorded process id."""
    pid = folder / "haproxy.pid"
    if pid.exists():
        stat = Path(f"/proc/{pid.read_text()}/stat")
        if _is_haproxy(stat):
            os.kill(int(pid.read_text()), signal.SIGTERM)
            wait_until(lambda: not _is_haproxy(stat), within_s=10)
    for container in remove_pods(POD_SUBNET):
        sys.stdout.write(f"removed {container}\n")
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _is_haproxy(stat: Path) -> bool:
    """Whether the process lives and is not another that got its number."""
    try:
        found = stat.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "(haproxy)" in found and ") Z " not in found


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.isvc", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for haproxy's files")
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up")
    starting.add_argument("--overlay", choices=OVERLAYS, default="local")
    commands.add_parser("down")
    args = parser.parse_args()
    return up(args.overlay, args.folder) if args.command == "up" else down(args.folder)


if __name__ == "__main__":
    raise SystemExit(main())
