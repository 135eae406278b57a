"""`python -m tests.drills.jumping_operator`: the operator with a wall clock that somebody sets.

The file named by `DRILL_CLOCK` holds the seconds by which it is off. Nothing else is changed.
"""

from __future__ import annotations

import os
import runpy
from datetime import datetime, timedelta
from pathlib import Path

from autoscaler import run

_honest = run._now
_clock = Path(os.environ["DRILL_CLOCK"])


def _jumped() -> datetime:
    return _honest() + timedelta(seconds=float(_clock.read_text()))


if __name__ == "__main__":
    run._now = _jumped
    runpy.run_module("autoscaler", run_name="__main__", alter_sys=True)
