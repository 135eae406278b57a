"""What an answer has to be, worked out the long way: loops over numbers, and torch itself."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model_store.packaged import packaged_path
from tests.service.processes import MODEL, VERSION

# Name, minimum, maximum, and whether absence is 0 always (Z), without traffic (T) or never (R):
# the table of the specification, written again.
TABLE = (
    ("cpu_utilization", 0.0, 1.0, "R"),
    ("memory_utilization", 0.0, 1.0, "R"),
    ("network_io_rate", 0.0, 1e6, "R"),
    ("request_rate", 0.0, 1000.0, "R"),
    ("pod_count", 1.0, 50.0, "R"),
    ("response_time_p95", 0.0, 5.0, "T"),
    ("error_rate", 0.0, 0.1, "T"),
    ("queue_depth", 0.0, 100.0, "Z"),
    ("cpu_throttling", 0.0, 1.0, "Z"),
    ("memory_pressure", 0.0, 1.0, "R"),
    ("node_utilization", 0.0, 1.0, "R"),
)
NAMES = tuple(name for name, *_ in TABLE)
ACTIONS = {
    "SCALE_DOWN_2": -2,
    "SCALE_DOWN_1": -1,
    "NO_ACTION": 0,
    "SCALE_UP_1": 1,
    "SCALE_UP_2": 2,
}


class Asked(NamedTuple):
    """One row with its bounds."""

    row: tuple[float, ...]
    current: int | None = None
    minimum: int = 1
    maximum: int = 50


class Expected(NamedTuple):
    """What has to come of it, the Q-values apart."""

    state: tuple[float, ...]
    current: int
    allowed: tuple[str, ...]
    clipped: tuple[str, ...]
    imputed: tuple[str, ...]


def refused_feature(row: Sequence[float]) -> str | None:
    """The first feature for which a row is refused, if there is one."""
    idle = row[3] == 0
    for value, (name, _, _, absent) in zip(row, TABLE, strict=True):
        is_zero = absent == "Z" or (absent == "T" and idle)
        if value == -math.inf or (math.isnan(value) and not is_zero):
            return name
    return None


def expected(asked: Asked) -> Expected:
    """State, mask and lists of one row that is not refused."""
    state, clipped, imputed = [], [], []
    for raw, (name, low, high, _) in zip(asked.row, TABLE, strict=True):
        value = raw
        if math.isnan(value):
            imputed.append(name)
            value = 0.0
        if not low <= value <= high:
            clipped.append(name)
        state.append((min(max(value, low), high) - low) / (high - low))
    pods = max(math.floor(asked.row[4] + 0.5), 0) if asked.current is None else asked.current
    return Expected(
        tuple(state),
        pods,
        tuple(name for name, by in ACTIONS.items() if _is_allowed(pods, by, asked)),
        tuple(clipped),
        tuple(imputed),
    )


def best_action(q_values: Sequence[float], allowed: Sequence[str]) -> str:
    """The best allowed action; ties go to the smallest change, then to the addition."""
    best: str | None = None
    for name in ("NO_ACTION", "SCALE_UP_1", "SCALE_DOWN_1", "SCALE_UP_2", "SCALE_DOWN_2"):
        if name not in allowed:
            continue
        if best is None or q_values[_index(name)] > q_values[_index(best)]:
            best = name
    assert best is not None
    return best


def torch_q_values(states: NDArray[np.float32]) -> NDArray[np.float32]:
    """The packaged network called directly."""
    answer: NDArray[np.float32] = _network()(torch.from_numpy(states)).numpy()
    return answer


def _network() -> Any:
    content = (packaged_path() / MODEL / VERSION / "model.pt").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(io.BytesIO(content)).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def _is_allowed(pods: int, by: int, asked: Asked) -> bool:
    return (
        by == 0
        or _outside(pods + by, asked) == 0
        or _outside(pods + by, asked) < _outside(pods, asked)
    )


def _outside(pods: int, asked: Asked) -> int:
    return max(asked.minimum - pods, pods - asked.maximum, 0)


def _index(name: str) -> int:
    return list(ACTIONS).index(name)
