"""The load generator: Debian's `wrk`, one thread, requests rendered beforehand.

`wrk` keeps each connection busy with one request at a time (a closed loop). Its own CPU time is
measured with every run, because a generator that is busy all the time measures itself.
"""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_MARK: Final = "RESULT "
NO_WRK: Final = "expected the program wrk (Debian: apt install wrk), found none"


class LoadFailedError(Exception):
    """The generator itself failed; this says nothing about the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run of the generator saw."""

    requests: int
    """Answers received, whatever their status."""
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    """Answers that are not 2xx, refused or broken connections, and timeouts."""
    generator_cores: float
    """CPU seconds of the generator per second; it has one thread, so 1.0 is its limit."""

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return max(self.requests - self.errors, 0) / self.seconds


def write_requests(path: Path, requests: Sequence[bytes]) -> None:
    """Write complete HTTP requests the way `wrk.lua` reads them."""
    path.write_bytes(b"".join(b"%010d" % len(request) + request for request in requests))


def read_requests(path: Path) -> list[bytes]:
    """The inverse of `write_requests`."""
    content = path.read_bytes()
    requests: list[bytes] = []
    start = 0
    while start < len(content):
        length = int(content[start : start + 10])
        requests.append(content[start + 10 : start + 10 + length])
        start += 10 + length
    return requests


def parse_result(output: str, *, generator_cores: float, seconds: float | None = None) -> Load:
    """Read the line that `wrk.lua` prints.

    Args:
        output: All that it printed.
        generator_cores: CPU seconds of the generator per second.
        seconds: In which it ran; None if it ran all the time, as the line has it.

    Raises:
        LoadFailedError: There is no such line.
    """
    for line in output.splitlines():
        if line.startswith(_MARK):
            fields: dict[str, int] = orjson.loads(line.removeprefix(_MARK))
            kinds = ("connect", "read", "write", "status", "timeout")
            return Load(
                requests=fields["requests"],
                seconds=fields["duration_us"] / 1e6 if seconds is None else seconds,
                p50_ms=fields["p50_us"] / 1e3,
                p99_ms=fields["p99_us"] / 1e3,
                max_ms=fields["max_us"] / 1e3,
                errors=sum(fields[kind] for kind in kinds),
                generator_cores=generator_cores,
            )
    msg = f"expected a line that starts with {_MARK!r} from wrk, got {output[-500:]!r}"
    raise LoadFailedError(msg)


def wrk_command(port: int, requests_file: Path, *, connections: int, seconds: int) -> list[str]:
    """The command line; arguments as of `run_wrk`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    return [*command, "-s", str(_SCRIPT), f"http://127.0.0.1:{port}", "--", str(requests_file)]


def run_wrk(port: int, requests_file: Path, *, connections: int, seconds: int) -> Load:
    """Load one port of loopback.

    Args:
        port: Where the server listens.
        requests_file: What `write_requests` wrote; sent in turn, by each connection.
        connections: Connections kept open, each with one request at a time.
        seconds: Whole seconds, at least 1.

    Raises:
        LoadFailedError: `wrk` is missing, failed, or printed no result.
    """
    command = wrk_command(port, requests_file, connections=connections, seconds=seconds)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 60, check=True
        )
    except FileNotFoundError as error:
        raise LoadFailedError(NO_WRK) from error
    except subprocess.SubprocessError as error:
        msg = f"{' '.join(command)} failed: {error}"
        raise LoadFailedError(msg) from error
    elapsed = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return parse_result(done.stdout, generator_cores=spent / elapsed)
