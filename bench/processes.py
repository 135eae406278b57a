"""Server processes: start, wait until ready, read what they cost from /proc, end by id."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_START_DEADLINE_S: Final = 120.0
_STOP_DEADLINE_S: Final = 45.0
_POLL_S: Final = 0.01
_SETTLE_DEADLINE_S: Final = 30.0
_SETTLE_POLL_S: Final = 0.08


class ServerFailedError(Exception):
    """A server did not start, or ended while it was needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How to start one server process."""

    name: str
    arguments: tuple[str, ...]
    """Arguments after the interpreter."""
    port: int
    ready_path: str
    environ: tuple[tuple[str, str], ...] = ()
    """Beside the environment of this process."""


@dataclass(slots=True, kw_only=True)
class Server:
    """One running server process."""

    spec: ProcessSpec
    process: subprocess.Popen[bytes]
    log: Path
    ready_s: float = 0.0
    """Seconds from process start to the first answer 200 of the readiness path."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running(specs: Sequence[ProcessSpec], logs: Path) -> Iterator[list[Server]]:
    """Start processes together, yield when all are ready, end them in reverse order.

    Raises:
        ServerFailedError: One ended or was not ready in time; its log is in the message.
    """
    servers: list[Server] = []
    try:
        started = time.perf_counter()
        servers.extend(_start(spec, logs) for spec in specs)
        _wait_ready(servers, started)
        yield servers
    finally:
        for server in reversed(servers):
            stop(server)


def _start(spec: ProcessSpec, logs: Path) -> Server:
    # One thread for every system: on a shared machine the pool of torch would wait for its slowest
    # thread, and the reference, which leaves the count alone, would lose by that.
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= dict(spec.environ)
    log = logs / f"{spec.name}-{spec.port}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *spec.arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    return Server(spec=spec, process=process, log=log)


def _wait_ready(servers: Sequence[Server], started: float) -> None:
    waiting = list(servers)
    while waiting:
        for server in list(waiting):
            if is_ready(server):
                server.ready_s = time.perf_counter() - started
                waiting.remove(server)
            elif server.process.poll() is not None:
                raise _failure(server, f"ended with status {server.process.returncode}")
            elif time.perf_counter() - started > _START_DEADLINE_S:
                raise _failure(server, f"was not ready after {_START_DEADLINE_S:g} s")
        time.sleep(_POLL_S)


def _failure(server: Server, what: str) -> ServerFailedError:
    tail = server.log.read_text(errors="replace")[-2000:]
    return ServerFailedError(f"{server.spec.name} {what}; the end of its log:\n{tail}")


def is_ready(server: Server) -> bool:
    """Whether the readiness path answers 200 now."""
    connection = http.client.HTTPConnection("127.0.0.1", server.spec.port, timeout=2)
    try:
        connection.request("GET", server.spec.ready_path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def settle(servers: Sequence[Server]) -> None:
    """Wait until processes have finished what an earlier load left in their queues.

    A generator that stops leaves its last requests behind; a slow server works on them for seconds,
    and the next measurement would pay.
    """
    deadline = time.perf_counter() + _SETTLE_DEADLINE_S
    while time.perf_counter() < deadline:
        before = sum(cpu_seconds(server.pid) for server in servers)
        time.sleep(_SETTLE_POLL_S)
        if sum(cpu_seconds(server.pid) for server in servers) - before <= _SETTLE_POLL_S / 4:
            return


def stop(server: Server) -> None:
    """End one process by its id: a polite signal, and after a deadline the other one."""
    if server.process.poll() is not None:
        return
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait(_STOP_DEADLINE_S)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used since its start."""
    return parse_cpu_seconds(Path(f"/proc/{pid}/stat").read_text(), _TICKS_PER_SECOND)


def parse_cpu_seconds(stat: str, ticks_per_second: int) -> float:
    """Fields 14 and 15 of /proc/PID/stat; the name before them may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks_per_second


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process now, or its peak with `VmHWM`, in MiB."""
    return parse_memory_mib(Path(f"/proc/{pid}/status").read_text(), field)


def parse_memory_mib(status: str, field: str) -> float:
    """One memory field of /proc/PID/status, which counts in KiB.

    Raises:
        ValueError: There is no such field: the process has ended.
    """
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    msg = f"expected a field {field} in /proc/PID/status, found none: the process has ended"
    raise ValueError(msg)


def busy_cpu_seconds() -> float:
    """CPU seconds that the whole machine has spent working since it started."""
    return parse_busy_seconds(Path("/proc/stat").read_text(), _TICKS_PER_SECOND)


def parse_busy_seconds(stat: str, ticks_per_second: int) -> float:
    """All states of the first line of /proc/stat, less idle and waiting for IO."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(value) for value in stat.splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / ticks_per_second
