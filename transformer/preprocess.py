"""Raw metrics to states, for all rows that wait at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import DEFAULT_MAX_REPLICAS, DEFAULT_MIN_REPLICAS
from nimbusguard.contract.features import POD_COUNT, REQUEST_RATE, STATE_DIM
from nimbusguard.contract.messages import (
    FROM_POD_COUNT,
    MAX_REPLICAS_VALUE,
    MetricRows,
    refused_message,
)
from nimbusguard.contract.normalization import Imputed, Normalized, impute, normalize

_FEW_ROWS: Final = 16
"""Up to here rows wait as they came, and become one array together with those of other requests."""


class Prepared(NamedTuple):
    """A batch that is ready for the network."""

    state: NDArray[np.float32]
    """(B, F)."""
    imputed: NDArray[np.bool_]
    """(B, F); where absence was read as 0."""
    clipped: NDArray[np.bool_]
    """(B, F); where a value lay outside its bounds."""
    current: NDArray[np.int64]
    """Replicas now (B,)."""
    minimum: NDArray[np.int64]
    """Lower bounds (B,)."""
    maximum: NDArray[np.int64]
    """Upper bounds (B,)."""


def compact(request: MetricRows) -> MetricRows:
    """The same rows as one array where they are many: a tenth of the memory while they wait."""
    if len(request) <= _FEW_ROWS or request.lookups:
        return request
    return MetricRows(stack([request]), request.options)


def stack(requests: Sequence[MetricRows]) -> NDArray[np.float64]:
    """The rows of all requests as one matrix (B, F)."""
    if all(type(request.rows) is list for request in requests):
        rows = list(chain.from_iterable(request.rows for request in requests))
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=len(rows) * STATE_DIM)
        return flat.reshape(-1, STATE_DIM)
    return np.concatenate(
        [np.asarray(request.rows, dtype=np.float64).reshape(-1, STATE_DIM) for request in requests]
    )


def refusals(
    raw: NDArray[np.float64], resolved: Imputed, requests: Sequence[MetricRows]
) -> dict[int, str]:
    """Why requests cannot be answered, by their index; empty when all can.

    Args:
        raw: Stacked rows (B, F).
        resolved: The same with absence resolved.
        requests: Where the rows came from, in order.
    """
    bad_rows = resolved.refused.any(axis=1)
    bad_rows |= ~(raw[:, POD_COUNT] <= MAX_REPLICAS_VALUE) & ~_has_current(requests, len(raw))
    if not bad_rows.any():
        return {}
    reasons: dict[int, str] = {}
    start = 0
    for index, request in enumerate(requests):
        wrong = np.flatnonzero(bad_rows[start : start + len(request)])
        if len(wrong):
            row = int(wrong[0])
            reasons[index] = _reason(raw[start + row], resolved.refused[start + row], row)
        start += len(request)
    return reasons


def prepare(resolved: Imputed, requests: Sequence[MetricRows]) -> Prepared:
    """States and replica bounds of rows of which none is refused."""
    values = resolved.values
    normalized: Normalized = normalize(values)
    # Half a pod rounds up: rounding down would make an action too small to matter.
    current = np.floor(np.minimum(values[:, POD_COUNT], MAX_REPLICAS_VALUE) + 0.5).astype(np.int64)
    current = np.maximum(current, 0)
    minimum = np.full(len(values), DEFAULT_MIN_REPLICAS, dtype=np.int64)
    maximum = np.full(len(values), DEFAULT_MAX_REPLICAS, dtype=np.int64)
    start = 0
    for request in requests:
        for row, options in request.options.items():
            if options.current_replicas != FROM_POD_COUNT:
                current[start + row] = options.current_replicas
            minimum[start + row] = options.min_replicas
            maximum[start + row] = options.max_replicas
        start += len(request)
    return Prepared(
        normalized.state, resolved.imputed, normalized.clipped, current, minimum, maximum
    )


def resolve(raw: NDArray[np.float64], absent_as_zero: NDArray[np.bool_]) -> Imputed:
    """Resolve absence by the table's rule and the operator's declaration."""
    return impute(raw, absent_as_zero)


def _has_current(requests: Sequence[MetricRows], rows: int) -> NDArray[np.bool_]:
    """Rows whose replica count was given beside the features."""
    given = np.zeros(rows, dtype=np.bool_)
    start = 0
    for request in requests:
        for row, options in request.options.items():
            given[start + row] = options.current_replicas != FROM_POD_COUNT
        start += len(request)
    return given


def _reason(raw: NDArray[np.float64], refused: NDArray[np.bool_], row: int) -> str:
    if refused.any():
        feature = int(np.argmax(refused))
        return refused_message(row, feature, float(raw[feature]), float(raw[REQUEST_RATE]))
    return (
        f"instance {row}: pod_count: expected at most {MAX_REPLICAS_VALUE} pods, "
        f"got {raw[POD_COUNT]:g}; give current_replicas beside it"
    )
