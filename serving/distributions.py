"""Histograms of the hot path: values and rows are kept, and counted later all at once."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client.samples import Exemplar

Bucket = tuple[str, float] | tuple[str, float, Exemplar]
_INFINITY: Final = float("inf")
_PENDING_VALUES: Final = 4096
"""Values that are kept until they are counted: 32 KiB. What runs every few hundred requests finds
the processor's caches cold: 512 values took some 60 µs under load, and 12 µs in a loop."""
_WINDOW_S: Final = 1.0
_MAX_ROWS: Final = 128
"""Rows of one matrix that are counted."""
_MAX_WINDOW_ROWS: Final = 2048
"""Rows of one window that are counted: 88 KiB at most for eleven features."""


def upper_bound(value: float) -> str:
    """A bucket's bound as Prometheus writes it."""
    return "+Inf" if value == _INFINITY else repr(value)


class Distribution:
    """One histogram.

    To find the bucket of each value as it comes would take 1 µs, that of many at once takes 50 ns.

    Args:
        bounds: Upper bounds of the buckets, ascending.
    """

    __slots__ = ("_bounds", "_counts", "_examples", "_pending", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        # Cumulative, as Prometheus wants them: values up to each bound, then all.
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._examples: dict[int, tuple[float, str]] = {}
        self._pending = array("d")
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Record one value, which is not NaN."""
        pending = self._pending
        pending.append(value)
        if len(pending) >= _PENDING_VALUES:
            self._count()

    def exemplify(self, value: float, trace_id: str) -> None:
        """Make the trace of a value, observed by itself, its bucket's example."""
        self._examples[bisect_left(self._bounds, value)] = (value, trace_id)

    @property
    def total(self) -> int:
        """Values so far."""
        return int(self._counts[-1]) + len(self._pending)

    def buckets(self) -> tuple[list[Bucket], float]:
        """Cumulative counts by upper bound, and the sum of all values."""
        return merged([self])

    def _count(self) -> None:
        ordered = np.sort(self._pending)
        del self._pending[:]
        self._counts[:-1] += np.searchsorted(ordered, self._bounds, side="right")
        self._counts[-1] += len(ordered)
        self._sum += float(ordered.sum())


def merged(distributions: Sequence[Distribution]) -> tuple[list[Bucket], float]:
    """What `buckets` would give of one distribution with the values of all.

    Args:
        distributions: At least one; all with the bounds of the first.
    """
    total = 0.0
    counts = np.zeros_like(distributions[0]._counts)
    examples: dict[int, tuple[float, str]] = {}
    for each in distributions:
        each._count()
        counts += each._counts
        total += each._sum
        examples |= each._examples
    bounds = (*distributions[0]._bounds, _INFINITY)
    rows: list[Bucket] = []
    for index, (bound, count) in enumerate(zip(bounds, counts.tolist(), strict=True)):
        row = (upper_bound(bound), float(count))
        if index in examples:
            value, trace_id = examples[index]
            rows.append((*row, Exemplar({"trace_id": trace_id}, value)))
        else:
            rows.append(row)
    return rows, total


class ColumnDistributions:
    """One histogram for each column of matrices that come in batches.

    They show how values are distributed, not how many there were: a thousand rows tell that as well
    as a million, and counting every row took 0.14 µs of the 18 that a row by itself costs. So of a
    large matrix rows at equal distances stand for all, and of a second its first rows.

    Args:
        columns: Columns of every matrix.
        bounds: Upper bounds of the buckets, ascending.
    """

    __slots__ = ("_bounds", "_counts", "_pending", "_pending_rows", "_sums", "_window_ends")

    def __init__(self, columns: int, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        # Cumulative, as Prometheus wants them: values up to each bound, then all.
        self._counts = np.zeros((columns, len(bounds) + 1), dtype=np.int64)
        self._sums = np.zeros(columns)
        self._pending: list[NDArray[np.floating]] = []
        self._pending_rows = 0
        self._window_ends = 0.0

    def observe(self, rows: NDArray[np.floating], at: float) -> None:
        """Record a matrix, which must not change afterwards; NaN is left out.

        Args:
            rows: (B, columns); of one column, (B,) does.
            at: On a clock in seconds that never goes back.
        """
        if self._pending_rows >= _MAX_WINDOW_ROWS:
            if at < self._window_ends:
                return
            self._count()
        if not self._pending:
            self._window_ends = at + _WINDOW_S
        if len(rows) > _MAX_ROWS:
            rows = rows[:: -(-len(rows) // _MAX_ROWS)].copy()
        self._pending.append(rows)
        self._pending_rows += len(rows)

    def buckets(self) -> list[tuple[list[Bucket], float]]:
        """For each column, cumulative counts by upper bound, and the sum of its values."""
        self._count()
        names = [upper_bound(bound) for bound in (*self._bounds, _INFINITY)]
        return [
            ([(name, float(n)) for name, n in zip(names, counts, strict=True)], float(total))
            for counts, total in zip(self._counts.tolist(), self._sums.tolist(), strict=True)
        ]

    def _count(self) -> None:
        """Count what waits: in a sorted column each bound is looked up once, not each value."""
        if not self._pending:
            return
        rows = np.concatenate(self._pending).reshape(-1, len(self._sums))  # (N, columns)
        self._pending, self._pending_rows = [], 0
        ordered = np.sort(rows.T, axis=1)  # (columns, N), NaN last
        bounds = np.array((*self._bounds, _INFINITY), dtype=ordered.dtype)
        for index, column in enumerate(ordered):
            self._counts[index] += np.searchsorted(column, bounds, side="right")
        self._sums += np.nansum(rows, axis=0, dtype=np.float64)
