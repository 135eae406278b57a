"""Reading /proc, and ending what was started."""

import os
import sys
from pathlib import Path

import pytest

from bench.processes import (
    ProcessSpec,
    ServerFailedError,
    cpu_seconds,
    free_ports,
    parse_busy_seconds,
    parse_cpu_seconds,
    parse_memory_mib,
    resident_mib,
    running,
)


def test_cpu_time_is_user_plus_system() -> None:
    """A process name with blanks and brackets does not shift the fields."""
    stat = "42 (a (b) c) S 1 42 42 0 -1 0 0 0 0 0 150 50 7 7 20 0 1 0 100 0 0"

    assert parse_cpu_seconds(stat, ticks_per_second=100) == 2.0


def test_memory_is_read_in_mib() -> None:
    """/proc counts in KiB."""
    assert parse_memory_mib("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n", "VmRSS") == 1.0


def test_a_process_that_has_ended_has_no_memory() -> None:
    """Zero would pass every limit, so it is an error."""
    with pytest.raises(ValueError, match="VmRSS"):
        parse_memory_mib("Name:\tx\nState:\tZ (zombie)\n", "VmRSS")


def test_waiting_is_not_work() -> None:
    """Idle time and waiting for IO are left out of what the machine did."""
    assert parse_busy_seconds("cpu  100 20 30 9999 8888 4 5 6 0 0\ncpu0 1\n", 100) == 1.65


def test_this_process_uses_memory_and_time() -> None:
    """The parsers fit the kernel the tests run on."""
    assert resident_mib(os.getpid()) > 1
    assert cpu_seconds(os.getpid()) > 0


def test_free_ports_differ() -> None:
    """Two servers of one system never get the same port."""
    assert len(set(free_ports(8))) == 8


def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    """Whoever runs the benchmark sees why, not just that."""
    (port,) = free_ports(1)
    spec = ProcessSpec(
        name="broken",
        arguments=("-c", "import sys; sys.exit('no model here')"),
        port=port,
        ready_path="/",
    )

    with (
        pytest.raises(ServerFailedError, match="no model here"),
        running([spec], tmp_path),
    ):
        pytest.fail("it never was ready")


def test_a_server_is_ended_when_its_block_is_left(tmp_path: Path) -> None:
    """By its id, also when the block fails."""
    (port,) = free_ports(1)
    spec = ProcessSpec(
        name="files",
        arguments=("-m", "http.server", "--bind", "127.0.0.1", str(port)),
        port=port,
        ready_path="/README.md",
    )

    with pytest.raises(RuntimeError, match="on purpose"), running([spec], tmp_path) as servers:
        raise RuntimeError("on purpose")

    assert servers[0].process.returncode is not None
    assert servers[0].ready_s > 0
    assert sys.executable in servers[0].process.args  # type: ignore[operator]
