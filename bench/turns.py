"""Loads that take turns of a fraction of a second: all but one generator stand still.

A shared machine changes its speed by a third within seconds. Measurements of two seconds one after
the other then differ by more than what a few percent of cost can show; turns this short meet the
same machine.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.load import NO_WRK, Load, LoadFailedError, parse_result, wrk_command
from bench.processes import cpu_seconds

_FOREVER_S: Final = 3600
"""Longer than any round; a signal ends it."""
_END_S: Final = 15.0
_AGAIN_S: Final = 0.2


@dataclass(slots=True, kw_only=True)
class PausedLoad:
    """A generator that stands still between its turns."""

    process: subprocess.Popen[str]
    active_s: float = field(default=0.0, init=False)
    """Seconds in which it ran."""

    def turn(self, seconds: float) -> None:
        """Run, and stand still again. What is then under way waits in the sockets."""
        began = time.perf_counter()
        self.process.send_signal(signal.SIGCONT)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGSTOP)
        self.active_s += time.perf_counter() - began

    def finish(self) -> Load:
        """End it and read what it saw, a second being one of its own.

        Raises:
            LoadFailedError: It failed, or printed no result.
        """
        cores = cpu_seconds(self.process.pid) / self.active_s
        self.process.send_signal(signal.SIGCONT)
        output = self._interrupt()
        return parse_result(output, generator_cores=cores, seconds=self.active_s)

    def _interrupt(self) -> str:
        """What it printed. The signal has to meet the first of its threads, so it comes again."""
        ends = time.perf_counter() + _END_S
        while time.perf_counter() < ends:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                return self.process.communicate(timeout=_AGAIN_S)[0]
        message = f"wrk did not end within {_END_S} s of SIGINT"
        raise LoadFailedError(message)


@contextmanager
def paused(port: int, requests_file: Path, *, connections: int) -> Iterator[PausedLoad]:
    """Start a generator that stands still; it ends with the block at the latest.

    Raises:
        LoadFailedError: There is no wrk.
    """
    command = wrk_command(port, requests_file, connections=connections, seconds=_FOREVER_S)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError as error:
        raise LoadFailedError(NO_WRK) from error
    with process:
        try:
            os.kill(process.pid, signal.SIGSTOP)
            yield PausedLoad(process=process)
        finally:
            if process.poll() is None:
                process.kill()


def take_turns(
    ports: Sequence[int], requests_file: Path, *, connections: int, turns: int, turn_s: float
) -> list[Load]:
    """Load several ports in turns, each equally often before and after each other.

    Args:
        ports: Of loopback.
        requests_file: What `write_requests` wrote.
        connections: Of each generator.
        turns: How many each takes; a multiple of the number of orders keeps them fair.
        turn_s: Length of a turn in seconds. What is under way at its end is answered in another's
            time: it has to be little beside what a turn answers.

    Returns:
        What the generator of each port saw, in their order.

    Raises:
        LoadFailedError: A generator failed.
    """
    with ExitStack() as stack:
        loads = [
            stack.enter_context(paused(port, requests_file, connections=connections))
            for port in ports
        ]
        orders = itertools.cycle(itertools.permutations(loads))
        for order in itertools.islice(orders, turns):
            for load in order:
                load.turn(turn_s)
        return [load.finish() for load in loads]
