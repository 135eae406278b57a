"""Starts a container as the manifests would have it run, and ends it by its id."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from tests.images.toolchain import run

# crun, podman's default, wants a cgroup layout that build machines often lack; the limits replace
# defaults above what an unprivileged parent may hand out.
PODMAN = (
    "podman", "--runtime", "runc", "run", "--network", "host",
    "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
)  # fmt: skip
RESTRICTED = (
    "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges",
)  # fmt: skip
WRITABLE_TMP = ("--tmpfs", "/tmp:rw,size=64m,mode=1777", "--tmpfs", "/dev/shm:ro,size=64k")  # noqa: S108
"""The volumes of the manifests: one place to write, and no shared memory."""

WHO = """
import os, pathlib
# A file system that holds message queues and no files.
skipped = {"/proc", "/dev/mqueue"}
writable = []
for folder, below, _ in os.walk("/"):
    below[:] = [name for name in below if os.path.join(folder, name) not in skipped]
    try:
        pathlib.Path(folder, "probe").write_text("x")
    except OSError:
        continue
    writable.append(folder)
    below.clear()
status = pathlib.Path("/proc/1/status").read_text()
capabilities = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
print(os.getuid(), capabilities, writable)
"""
"""Prints who runs it, with which capabilities, and the topmost folders that it can write to."""


@dataclass(slots=True)
class Container:
    """One running container; leaving the context removes it.

    Attributes:
        image: Reference in podman's storage.
        arguments: What KServe would append to the ENTRYPOINT.
        options: Further options of `podman run`.
        environment: Variables.
        memory: Limit, in podman's words.
    """

    image: str
    arguments: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    memory: str = "512m"
    id: str = ""

    def start(self) -> None:
        """Run it in the background."""
        variables = [
            part for pair in self.environment.items() for part in ("--env", "=".join(pair))
        ]
        self.id = run(
            *PODMAN,
            "--detach",
            *RESTRICTED,
            "--memory",
            self.memory,
            *self.options,
            *variables,
            self.image,
            *self.arguments,
        ).strip()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as the same user."""
        return subprocess.run(
            ["podman", "exec", self.id, *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def logs(self) -> str:
        """Everything that it printed."""
        printed = subprocess.run(
            ["podman", "logs", self.id], capture_output=True, text=True, timeout=60, check=False
        )
        return printed.stdout + printed.stderr

    def is_running(self) -> bool:
        """Whether its process is still there."""
        (state,) = json.loads(run("podman", "inspect", self.id))
        return bool(state["State"]["Running"])

    def stop(self, grace_s: int) -> int:
        """SIGTERM, then SIGKILL when the grace is over; gives back the exit status."""
        run("podman", "stop", "--time", str(grace_s), self.id, timeout=grace_s + 60)
        (state,) = json.loads(run("podman", "inspect", self.id))
        return int(state["State"]["ExitCode"])

    def remove(self) -> None:
        """Take it away, running or not."""
        if self.id:
            subprocess.run(
                ["podman", "rm", "--force", "--time", "2", self.id],
                capture_output=True,
                check=False,
            )
            self.id = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def wait_until(
    condition: Callable[[], bool], container: Container | None = None, *, within_s: float = 60
) -> float:
    """Poll until the condition holds.

    Returns:
        The seconds that it took.
    """
    started = time.perf_counter()
    while not condition():
        waited = time.perf_counter() - started
        if container is not None and not container.is_running():
            raise AssertionError(f"the container ended:\n{container.logs()}")
        logs = container.logs() if container else ""
        assert waited < within_s, f"not within {within_s} s\n{logs}"
        time.sleep(0.05)
    return time.perf_counter() - started


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
