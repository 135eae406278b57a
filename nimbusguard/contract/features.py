"""The ordered table of the eleven features: name, unit, bounds, and what absence means.

Only the table and its derived arrays live here. Everything that depends on the order of the state
takes it from `FEATURES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np


class Absence(Enum):
    """What a missing or NaN value of a feature means."""

    REFUSE = "refuse"
    """Missing data must not look like an idle service."""
    ZERO_WITHOUT_TRAFFIC = "zero_without_traffic"
    """0 if `request_rate` is 0, because then there is nothing to measure; else refuse."""
    ZERO = "zero"
    """0: the exporter drops the series when there is nothing to report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One named number of the state."""

    name: str
    unit: str
    minimum: float
    maximum: float
    absence: Absence
    meaning: str


def _feature(
    name: str, unit: str, bounds: tuple[float, float], absence: Absence, meaning: str
) -> Feature:
    return Feature(
        name=name,
        unit=unit,
        minimum=bounds[0],
        maximum=bounds[1],
        absence=absence,
        meaning=meaning,
    )


FEATURES: Final[tuple[Feature, ...]] = (
    _feature("cpu_utilization", "ratio", (0.0, 1.0), Absence.REFUSE, "CPU used over the CPU limit"),
    _feature(
        "memory_utilization",
        "ratio",
        (0.0, 1.0),
        Absence.REFUSE,
        "memory used over the memory limit",
    ),
    _feature(
        "network_io_rate",
        "bytes/s",
        (0.0, 1e6),
        Absence.REFUSE,
        "bytes sent by the workload per second",
    ),
    _feature(
        "request_rate",
        "requests/s",
        (0.0, 1000.0),
        Absence.REFUSE,
        "requests to the workload per second",
    ),
    _feature("pod_count", "pods", (1.0, 50.0), Absence.REFUSE, "pods of the workload"),
    _feature(
        "response_time_p95",
        "seconds",
        (0.0, 5.0),
        Absence.ZERO_WITHOUT_TRAFFIC,
        "95th percentile of the response time",
    ),
    _feature(
        "error_rate",
        "ratio",
        (0.0, 0.1),
        Absence.ZERO_WITHOUT_TRAFFIC,
        "failed requests over all requests",
    ),
    _feature(
        "queue_depth", "requests", (0.0, 100.0), Absence.ZERO, "requests waiting or in flight"
    ),
    _feature(
        "cpu_throttling",
        "seconds/second",
        (0.0, 1.0),
        Absence.ZERO,
        "throttled seconds per second",
    ),
    _feature("memory_pressure", "ratio", (0.0, 1.0), Absence.REFUSE, "node memory in use"),
    _feature("node_utilization", "ratio", (0.0, 1.0), Absence.REFUSE, "node CPU in use"),
)

NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)
INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(NAMES)}
STATE_DIM: Final = len(FEATURES)
MINIMUM: Final = np.array([feature.minimum for feature in FEATURES], dtype=np.float64)  # (F,)
MAXIMUM: Final = np.array([feature.maximum for feature in FEATURES], dtype=np.float64)  # (F,)
MINIMUM.setflags(write=False)
MAXIMUM.setflags(write=False)
REQUEST_RATE: Final = INDEX["request_rate"]
POD_COUNT: Final = INDEX["pod_count"]
