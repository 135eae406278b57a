"""Histograms of the hot path: plain counts, and rows that are counted later all at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client.samples import Exemplar

Bucket = tuple[str, float] | tuple[str, float, Exemplar]
_INFINITY: Final = float("inf")
_MAX_ROWS: Final = 128
"""Rows of one matrix that are counted."""
_PENDING_ROWS: Final = 2048
"""Rows that are kept until they are counted: 88 KiB at most for eleven features."""


def upper_bound(value: float) -> str:
    """A bucket's bound as Prometheus writes it."""
    return "+Inf" if value == _INFINITY else repr(value)


class Distribution:
    """A histogram's counts."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, Exemplar] = {}
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count many values at once."""
        ordered = np.sort(values)
        up_to = np.searchsorted(ordered, self._bounds, side="right").tolist()
        below = 0
        for index, amount in enumerate((*up_to, len(values))):
            self._counts[index] += amount - below
            below = amount
        self._sum += float(ordered.sum())

    def exemplify(self, value: float, trace_id: str) -> None:
        """Make the trace of a value, counted elsewhere, its bucket's example."""
        index = bisect_left(self._bounds, value)
        self._exemplars[index] = Exemplar({"trace_id": trace_id}, value)

    def buckets(self) -> tuple[list[Bucket], float]:
        """Cumulative counts by upper bound, and the sum of all values."""
        total = 0
        rows: list[Bucket] = []
        for index, bound in enumerate((*self._bounds, _INFINITY)):
            total += self._counts[index]
            exemplar = self._exemplars.get(index)
            row = (upper_bound(bound), float(total))
            rows.append(row if exemplar is None else (*row, exemplar))
        return rows, self._sum


class ColumnDistributions:
    """One histogram for each column of matrices that come in batches.

    Recording keeps a reference, 50 ns; the rows of many batches are counted together when there are
    enough of them, or when somebody looks. Counting each batch by itself would cost 10 µs.

    Args:
        columns: Columns of every matrix.
        bounds: Upper bounds of the buckets, ascending.
    """

    __slots__ = ("_bounds", "_counts", "_pending", "_pending_rows", "_sums")

    def __init__(self, columns: int, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        # Cumulative, as Prometheus wants them: values up to each bound, then all.
        self._counts = np.zeros((columns, len(bounds) + 1), dtype=np.int64)
        self._sums = np.zeros(columns)
        self._pending: list[NDArray[np.floating]] = []
        self._pending_rows = 0

    def observe(self, rows: NDArray[np.floating]) -> None:
        """Record a matrix (B, columns), which must not change afterwards; NaN is left out.

        Of a large matrix rows at equal distances stand for all: every row of a thousand would cost
        a tenth of the time that their decisions take.
        """
        if len(rows) > _MAX_ROWS:
            rows = rows[:: -(-len(rows) // _MAX_ROWS)].copy()
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows >= _PENDING_ROWS:
            self._count()

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
        rows = np.concatenate(self._pending)  # (N, columns)
        self._pending, self._pending_rows = [], 0
        ordered = np.sort(rows.T, axis=1)  # (columns, N), NaN last
        bounds = np.array(self._bounds, dtype=ordered.dtype)
        for counts, column in zip(self._counts, ordered, strict=True):
            counts[:-1] += np.searchsorted(column, bounds, side="right")
        known = ~np.isnan(ordered)
        self._counts[:, -1] += known.sum(axis=1)
        self._sums += np.where(known, ordered, 0.0).sum(axis=1, dtype=np.float64)
