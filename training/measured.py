"""A user's own traffic as windows to learn from: one JSON file between `prepare` and `train`.

Nothing here needs Parquet, so that training on the shipped traces alone needs it neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from training.simulator.workload import Workload

ARRIVALS_FILE: Final = "arrivals.json"
GROUP: Final = "measured"
"""What the windows are reported with."""


def arrivals_document(windows: Sequence[Workload]) -> dict[str, Any]:
    """Windows as `read_arrivals` takes them back."""
    return {
        "windows": [
            {
                "name": window.name,
                "group": window.group,
                "step_s": window.step_s,
                "load": window.load.tolist(),
                "peak_rate": window.peak_rate,
            }
            for window in windows
        ]
    }


def read_arrivals(path: Path) -> list[Workload]:
    """The windows that `prepare` wrote."""
    document = orjson.loads(path.read_bytes())
    return [
        Workload(**{**window, "load": np.array(window["load"], dtype=np.float64)})
        for window in document["windows"]
    ]
