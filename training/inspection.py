"""What is wrong with collected samples: gaps, vanished features, values beyond the bounds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nimbusguard.contract.features import FEATURES, NAMES, Absence
from training.range_query import Span

REQUIRED: Final = tuple(feature.name for feature in FEATURES if feature.absence is Absence.REFUSE)
"""Features without which the contract refuses a row."""
VANISHED_RATIO: Final = 0.1
"""A feature has vanished if it was there and is absent from the last tenth of the range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Steps at which a workload had no usable row."""

    begin_s: int
    end_s: int
    """First step after the gap."""
    reason: str
    """`no samples`, `missing <features>` or `counter reset`: that of its first step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """One workload on the grid of the range; arrays over T steps."""

    namespace: str
    workload: str
    values: NDArray[np.float64]
    """(T, F); NaN where there is no number."""
    present: NDArray[np.bool_]
    """(T, F); a NaN that was recorded is present."""
    resets: NDArray[np.int64]
    """(T,) Counter resets seen at each step."""
    startup_s: NDArray[np.float64]
    """(T,) Median start-up of the pods there; NaN if unknown."""

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(T,) Every required feature is a number, and no counter was reset."""
        columns = [NAMES.index(name) for name in REQUIRED]
        numbers = np.isfinite(self.values[:, columns]).all(axis=1)
        usable: NDArray[np.bool_] = numbers & (self.resets == 0)
        return usable


def courses(table: pa.Table, span: Span) -> Iterator[Course]:
    """Every workload of a table, on the grid of the range."""
    rows = table.to_pydict()
    keys = np.array([f"{a}/{b}" for a, b in zip(rows["namespace"], rows["workload"], strict=True)])
    times = np.array([int(time.timestamp()) for time in rows["time"]], dtype=np.int64)
    index = (times - span.begin_s) // span.step_s
    columns = [table.column(name) for name in NAMES]
    present = np.column_stack([np.asarray(column.is_valid()) for column in columns])
    values = np.column_stack([column.to_numpy() for column in columns])
    resets = np.asarray(rows["counter_resets"], dtype=np.int64)
    startup = table.column("startup_s").to_numpy()
    for key in np.unique(keys):
        own = keys == key
        namespace, _, workload = str(key).partition("/")
        course = Course(
            namespace=namespace,
            workload=workload,
            values=np.full((span.steps, len(NAMES)), np.nan),
            present=np.zeros((span.steps, len(NAMES)), dtype=np.bool_),
            resets=np.zeros(span.steps, dtype=np.int64),
            startup_s=np.full(span.steps, np.nan),
        )
        course.values[index[own]] = values[own]
        course.present[index[own]] = present[own]
        course.resets[index[own]] = resets[own]
        course.startup_s[index[own]] = startup[own]
        yield course


def gaps(course: Course, span: Span) -> list[Gap]:
    """Every run of unusable steps, with the reason of its first one."""
    return [
        Gap(
            begin_s=span.begin_s + first * span.step_s,
            end_s=span.begin_s + last * span.step_s,
            reason=_reason(course, first),
        )
        for first, last in runs(~course.usable)
    ]


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of every run of true values; the end is exclusive."""
    padded = np.concatenate(([False], flags, [False])).astype(np.int8)
    edges = np.diff(padded)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True)]


def describe(course: Course, span: Span) -> dict[str, Any]:
    """A workload as the manifest reports it."""
    found = gaps(course, span)
    return {
        "namespace": course.namespace,
        "workload": course.workload,
        "rows": int(course.present.any(axis=1).sum()),
        "usable_rows": int(course.usable.sum()),
        "gap_ratio": float(1.0 - course.usable.mean()),
        # A reset is seen for several steps; a run of them is one restart.
        "counter_resets": len(runs(course.resets > 0)),
        "vanished_features": [
            name for column, name in enumerate(NAMES) if _vanished(course.present[:, column])
        ],
        "features": {
            feature.name: _feature(course.values[:, column], course.present[:, column], column)
            for column, feature in enumerate(FEATURES)
        },
        "gaps": [asdict(gap) for gap in found],
    }


def _feature(
    values: NDArray[np.float64], present: NDArray[np.bool_], column: int
) -> dict[str, Any]:
    numbers = values[np.isfinite(values)]
    low, high = FEATURES[column].minimum, FEATURES[column].maximum
    clipped = int(((numbers < low) | (numbers > high)).sum())
    return {
        "present": int(present.sum()),
        "not_a_number": int((present & ~np.isfinite(values)).sum()),
        "minimum": float(numbers.min()) if numbers.size else None,
        "maximum": float(numbers.max()) if numbers.size else None,
        "outside_training_range": clipped,
    }


def _vanished(present: NDArray[np.bool_]) -> bool:
    last = max(round(len(present) * VANISHED_RATIO), 1)
    return bool(present.any() and not present[-last:].any())


def _reason(course: Course, step: int) -> str:
    if not course.present[step].any():
        return "no samples"
    missing = [name for name in REQUIRED if not np.isfinite(course.values[step, NAMES.index(name)])]
    return f"missing {', '.join(missing)}" if missing else "counter reset"
