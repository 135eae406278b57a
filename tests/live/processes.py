"""Children of a test: started, waited for, stopped for a while, and ended for certain."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
POLL_S: Final = 0.1
_LIBC: Final = ctypes.CDLL(None)
_PR_SET_PDEATHSIG: Final = 1


def wait_until(what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    """Poll a condition until it holds, or fail and say what did not come."""
    ends = time.perf_counter() + timeout_s
    while not condition():
        assert time.perf_counter() < ends, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)


@dataclass(slots=True, kw_only=True)
class Process:
    """A child with its output, ended by whoever started it."""

    popen: subprocess.Popen[str]

    def first_line(self) -> str:
        """What it says when it is ready."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline().strip()
        assert line, f"{self.popen.args!r} ended without a word"
        return line

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It stands still while the block runs, as on a node that hangs."""
        os.kill(self.popen.pid, signal.SIGSTOP)
        try:
            wait_until("every thread has stopped", self._stands_still, 5)
            yield
        finally:
            os.kill(self.popen.pid, signal.SIGCONT)

    def _stands_still(self) -> bool:
        states = Path(f"/proc/{self.popen.pid}/task").glob("*/stat")
        return all(state.read_text().rpartition(") ")[2].startswith("T") for state in states)

    def end(self) -> str:
        """SIGTERM, then SIGKILL; returns the rest of its output."""
        self.popen.terminate()
        try:
            return self.popen.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.communicate()[0]


def start(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    environ: Mapping[str, str] | None = None,
    stdin: bool = False,
) -> Process:
    """Start a child that does not outlive this process; with `stdin`, one that reads."""
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w")) if log else None
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environ or {})},
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, which takes no lock
        )
    return Process(popen=popen)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
