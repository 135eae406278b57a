"""Runs a module and samples its main thread by CPU time: `python -m bench.sampler OUT MODULE …`.

SIGUSR1 begins, SIGUSR2 ends and writes the samples as JSON: each stack (outermost function first)
with its count. A sample a millisecond of CPU time costs about one per cent, and unlike a tracing
profiler it does not make small functions look expensive.
"""

from __future__ import annotations

import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

import orjson

INTERVAL_S: Final = 0.001


class Sampler:
    """Counts stacks between two signals."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._stacks: Counter[str] = Counter()

    def begin(self, _signal: int, _frame: FrameType | None) -> None:
        """Forget what was counted, and sample from here."""
        self._stacks.clear()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def sample(self, _signal: int, frame: FrameType | None) -> None:
        """Count one stack."""
        self._stacks[stack_of(frame)] += 1

    def end(self, _signal: int, _frame: FrameType | None) -> None:
        """Stop, and write aside first, so that a reader never sees half a file."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        aside = self._out.with_suffix(".part")
        aside.write_bytes(orjson.dumps(self._stacks))
        aside.rename(self._out)


def stack_of(frame: FrameType | None) -> str:
    """`module:function` of every frame, outermost first, joined by semicolons."""
    names: list[str] = []
    while frame is not None:
        names.append(f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(names))


def main() -> None:
    """Install the sampler, then become the module."""
    out, module, *arguments = sys.argv[1:]
    sampler = Sampler(Path(out))
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(signal.SIGUSR1, sampler.begin)
    signal.signal(signal.SIGUSR2, sampler.end)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
