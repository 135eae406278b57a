"""The two servers as their pods run them: `python -m …`, on free ports of loopback.

A server is ready when it says so over HTTP, never after a guessed pause; it is ended by its own id.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from model_store.packaged import packaged_store

MODEL = "nimbusguard-dqn"
VERSION = packaged_store().resolve(MODEL, "production")
"""What a server answers with that is told of no other version."""
ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = 60.0
"""Far above the 4 s that a start takes on two free cores; the machine may be busy."""
STOP_TIMEOUT_S = 40.0
_POLL_S = 0.02

T = TypeVar("T")


@dataclass(slots=True)
class Server:
    """One running server."""

    module: str
    process: subprocess.Popen[bytes]
    log_path: Path
    http_port: int = 0
    grpc_port: int = 0
    _checked: int = field(default=0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def log(self) -> list[dict[str, Any]]:
        """All whole lines of the log; a line that is no JSON fails here."""
        text = self.log_path.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def complaints(self) -> list[dict[str, Any]]:
        """What the log says above `info` since the last call."""
        lines = self.log()
        new, self._checked = lines[self._checked :], len(lines)
        return [line for line in new if line["level"] != "info" or "traceback" in line]


@contextmanager
def running(
    module: str,
    log_path: Path,
    *flags: str,
    environ: Mapping[str, str] | None = None,
    wait: str = f"/v1/models/{MODEL}",
) -> Iterator[Server]:
    """Start a server, wait until `wait` is answered with 200, and end it afterwards.

    Args:
        module: `predictor` or `transformer`.
        log_path: Where standard error goes.
        flags: Besides the two ports.
        environ: Settings, beside a clean environment.
        wait: A path; an empty one waits for the line `listening` only.
    """
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command(module, "--http_port=0", "--grpc_port=0", *flags),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=clean_environ(environ),
            cwd=log_path.parent,
        )
    server = Server(module, process, log_path)
    try:
        line = until(lambda: _listening(server), f"{module} listens")
        server.http_port, server.grpc_port = line["http_port"], line["grpc_port"]
        if wait:
            until(lambda: _is_ok(server.url + wait), f"{module} answers {wait}")
        yield server
    finally:
        end(process)


def command(module: str, *flags: str) -> Sequence[str]:
    """How a pod starts a server; `-P` as in the image, so that the folder does not matter."""
    return [sys.executable, "-P", "-m", module, f"--model_name={MODEL}", *flags]


def clean_environ(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment without settings, on loopback, on one thread."""
    names = ("MODEL_DIR", "PROMETHEUS_ENDPOINT", "ABSENT_AS_ZERO")
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("NIMBUSGUARD_") and key not in names
    }
    own = {"NIMBUSGUARD_HOST": "127.0.0.1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {**kept, **own, **(extra or {})}


def end(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL for what does not heed it; the exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def until(condition: Callable[[], T | None], what: str, timeout_s: float = READY_TIMEOUT_S) -> T:
    """Poll a condition until it gives something true, with a deadline."""
    give_up_at = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > give_up_at:
            raise AssertionError(f"expected within {timeout_s:g} s: {what}")
        time.sleep(_POLL_S)


def _listening(server: Server) -> dict[str, Any] | None:
    if server.process.poll() is not None:
        said = server.log_path.read_text()[-2000:]
        raise AssertionError(f"{server.module} ended with {server.process.returncode}: {said}")
    return next((line for line in server.log() if line["message"] == "listening"), None)


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
