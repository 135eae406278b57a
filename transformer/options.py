"""Rows, replica counts and bounds out of V2 tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import DEFAULT_MAX_REPLICAS, DEFAULT_MIN_REPLICAS
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.messages import (
    FROM_POD_COUNT,
    MAX_REPLICAS_VALUE,
    MetricRows,
    RowOptions,
    check_bounds,
    check_row_count,
)

_DEFAULTS = {
    "current_replicas": FROM_POD_COUNT,
    "min_replicas": DEFAULT_MIN_REPLICAS,
    "max_replicas": DEFAULT_MAX_REPLICAS,
}


def rows_of_tensors(inputs: Mapping[str, NDArray[Any]], *, max_rows: int) -> MetricRows:
    """Rows of a V2 request.

    Args:
        inputs: Tensors by name; `raw_metrics` (B, F) is one of them.
        max_rows: The largest accepted B.

    Raises:
        InvalidRequest: There are none, too many, or bounds that cannot be.
    """
    raw = inputs["raw_metrics"]
    check_row_count(len(raw), max_rows=max_rows, where="raw_metrics")
    with np.errstate(invalid="ignore"):  # a signalling NaN is as absent as any other
        rows = raw.astype(np.float64)
    return MetricRows(rows, options_of_tensors(inputs))


def options_of_tensors(inputs: Mapping[str, NDArray[Any]]) -> dict[int, RowOptions]:
    """The options of each row; empty when no such tensor came.

    Args:
        inputs: Tensors (B,) INT64 by name.

    Raises:
        InvalidRequest: A value is no replica count, or a minimum is above its maximum.
    """
    if inputs.keys().isdisjoint(_DEFAULTS):
        return {}
    rows = len(inputs["raw_metrics"])
    columns = [
        _column(name, inputs[name]) if name in inputs else [default] * rows
        for name, default in _DEFAULTS.items()
    ]
    options = {row: RowOptions(*values) for row, values in enumerate(zip(*columns, strict=True))}
    for row, option in options.items():
        check_bounds(option, f"instance {row}")
    return options


def _column(name: str, tensor: NDArray[Any]) -> list[int]:
    values: list[int] = tensor.tolist()
    for row, value in enumerate(values):
        if not 0 <= value <= MAX_REPLICAS_VALUE:
            message = (
                f"instance {row}: {name}: expected a whole number from 0 to {MAX_REPLICAS_VALUE}, "
                f"got {value}"
            )
            raise InvalidRequest(message)
    return values
