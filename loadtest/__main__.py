"""`make loadtest`: a scenario against a server that is started for it, or against `--host`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from loadtest.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
READY_TIMEOUT_S = 120.0


def main() -> int:
    """Run locust without its web page; its exit status is ours."""
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="steady")
    parser.add_argument("--host", help="base URL; default a fresh `nimbusguard serve`")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "loadtest")
    args, others = parser.parse_known_args()
    args.output.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        host = args.host or stack.enter_context(serving())
        report = args.output / f"{args.scenario}.html"
        # fmt: off
        command = [
            sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"),
            "--headless", "--only-summary", "--host", host, "--scenario", args.scenario,
            "--payloads", str(ROOT / "tests" / "data"), "--html", str(report),
            "--csv", str(args.output / args.scenario), *others,
        ]
        # fmt: on
        status = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - ourselves
    print(f"{report}", flush=True)
    return status


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A transformer and a predictor on free ports, until the end."""
    ports = free_ports(4)
    names = ("--http-port", "--grpc-port", "--predictor-http-port", "--predictor-grpc-port")
    flags = [f"{name}={port}" for name, port in zip(names, ports, strict=True)]
    command = [sys.executable, "-m", "nimbusguard", "serve", *flags]
    process = subprocess.Popen(command, cwd=ROOT)  # noqa: S603 - ourselves
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        wait_ready(process, f"{url}/v1/models/nimbusguard-dqn")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def wait_ready(process: subprocess.Popen[bytes], address: str) -> None:
    """Poll until the model answers.

    Raises:
        RuntimeError: The server ended, or is not ready in time.
    """
    ends = time.perf_counter() + READY_TIMEOUT_S
    while process.poll() is None and time.perf_counter() < ends:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(address, timeout=2).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    message = f"nimbusguard serve: not ready within {READY_TIMEOUT_S:g} s"
    raise RuntimeError(message)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


if __name__ == "__main__":
    raise SystemExit(main())
