"""Prometheus' answers to raw features; the queries are in `promql`.

Pure: nothing here opens a connection, and no clock is read. The timestamp of an instant query's
sample is the moment of the query, not of the measurement, so how old a value may be is part of the
query (`max_age_s`) and cannot be told from an answer.

Every series is named by `__name__` = `nimbusguard:<feature>`, as the recording rules name it, or by
a label `feature`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX, NAMES, STATE_DIM
from nimbusguard.contract.promql import PREFIX, WorkloadKey

# What Prometheus writes; Python's float() would also take "1_000", " 1" and "nan".
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|NaN|[+-]?Inf")
# The longest float64 that is written without an exponent has 309 digits before the point.
_MAX_NUMBER_LENGTH: Final = 400
_MAX_SHOWN: Final = 200


class InstantRow(NamedTuple):
    """The answer for one workload."""

    values: NDArray[np.float64]
    """Raw features (F,); NaN for absent."""
    workload: WorkloadKey | None
    """Whose they are, if the series carry the labels `namespace` and `workload`."""


class _Series(NamedTuple):
    feature: str
    namespace: str | None
    workload: str | None
    value: float


def parse_instant_answer(document: object, where: str) -> NDArray[np.float64]:
    """The raw features (F,) of an instant-query answer; see `read_instant_answer`."""
    return read_instant_answer(document, where).values


def read_instant_answer(document: object, where: str) -> InstantRow:
    """The raw features of one workload, from an instant-query answer as it came.

    Args:
        document: The decoded JSON, `{"status": "success", "data": {…}}`. `warnings` and `infos`
            may stand in it.
        where: What the message of an error begins with, such as `instance 3`.

    Raises:
        InvalidRequest: The query failed, is no instant vector or is empty; a series is no feature,
            comes twice, or belongs to another workload than the others; a sample is no number.
    """
    row = np.full(STATE_DIM, np.nan)  # (F,)
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for series in _series_of(document, where):
        _note(labels, "namespace", series.namespace, where)
        _note(labels, "workload", series.workload, where)
        _put(row, seen, series, where)
    if not seen:
        message = (
            f"{where}: prometheus.data.result: expected series named {PREFIX}<feature>, got none; "
            "check the query and the recording rules"
        )
        raise InvalidRequest(message)
    complete = len(labels) == 2
    return InstantRow(row, (labels["namespace"], labels["workload"]) if complete else None)


def split_instant_answer(document: object, where: str) -> dict[WorkloadKey, NDArray[np.float64]]:
    """The raw features of many workloads, from the answer to `workloads_query`.

    Returns:
        Namespace and name to raw features (F,); a workload without any series is left out.

    Raises:
        InvalidRequest: As `read_instant_answer`, or a series lacks a label of its workload.
    """
    rows: dict[WorkloadKey, NDArray[np.float64]] = {}
    seen: dict[WorkloadKey, set[str]] = {}
    for series in _series_of(document, where):
        if series.namespace is None or series.workload is None:
            message = (
                f"{where}: prometheus: {series.feature}: expected the labels 'namespace' and "
                "'workload' on every series"
            )
            raise InvalidRequest(message)
        key = (series.namespace, series.workload)
        row = rows.setdefault(key, np.full(STATE_DIM, np.nan))
        _put(row, seen.setdefault(key, set()), series, where)
    return rows


def unknown_workload(namespace: str, deployment: str, where: str) -> InvalidRequest:
    """The error for a workload of which Prometheus has no series at all."""
    return InvalidRequest(
        f"{where}: workload {namespace}/{deployment}: expected series "
        f"{PREFIX}<feature>{{namespace, workload}}, got none; check the names, that it has pods, "
        "and that the recording rules are loaded"
    )


def _series_of(document: object, where: str) -> Iterator[_Series]:
    for index, entry in enumerate(_result_of(document, where)):
        place = f"{where}: prometheus.data.result[{index}]"
        metric = entry.get("metric") if isinstance(entry, dict) else None
        if not isinstance(metric, dict):
            message = f'{place}: expected {{"metric": {{…}}, "value": […]}}, got {_shown(entry)}'
            raise InvalidRequest(message)
        feature = _feature_of(metric, place)
        yield _Series(
            feature,
            _label(metric, "namespace", place),
            _label(metric, "workload", place),
            _value_of(entry, f"{place} ({feature})"),
        )


def _result_of(document: object, where: str) -> list[Any]:
    if not isinstance(document, dict):
        message = f"{where}: prometheus: expected an object, got {_shown(document)}"
        raise InvalidRequest(message)
    status = document.get("status")
    if status == "error":
        said = f"{_shown(document.get('errorType'))}: {_shown(document.get('error'))}"
        message = f"{where}: prometheus: expected an answer, got the error {said}"
        raise InvalidRequest(message)
    _expect(status, "success", f"{where}: prometheus.status")
    data = document.get("data")
    if not isinstance(data, dict):
        message = f"{where}: prometheus.data: expected an object, got {_shown(data)}"
        raise InvalidRequest(message)
    _expect(data.get("resultType"), "vector", f"{where}: prometheus.data.resultType")
    result = data.get("result")
    if not isinstance(result, list):
        message = f"{where}: prometheus.data.result: expected an array, got {_shown(result)}"
        raise InvalidRequest(message)
    return result


def _expect(value: object, expected: str, where: str) -> None:
    if value != expected:
        message = f"{where}: expected {expected!r}, got {_shown(value)}"
        raise InvalidRequest(message)


def _feature_of(metric: dict[str, Any], where: str) -> str:
    name = _label(metric, "__name__", where)
    feature = _label(metric, "feature", where)
    if name is not None and name.startswith(PREFIX):
        named = name.removeprefix(PREFIX)
        if feature not in (None, named):
            message = f"{where}: named {_shown(name)} but labelled feature={_shown(feature)}"
            raise InvalidRequest(message)
        feature = named
    if feature is None:
        message = (
            f"{where}.metric: expected __name__ = '{PREFIX}<feature>' or a label 'feature', "
            f"got {_shown(metric)}"
        )
        raise InvalidRequest(message)
    if feature not in INDEX:
        message = f"{where}: unknown feature {_shown(feature)}; expected " + ", ".join(NAMES)
        raise InvalidRequest(message)
    return feature


def _label(metric: dict[str, Any], name: str, where: str) -> str | None:
    value = metric.get(name)
    if value is None or isinstance(value, str):
        return value or None  # to Prometheus an empty label is none
    message = f"{where}.metric.{name}: expected a string, got {_shown(value)}"
    raise InvalidRequest(message)


def _value_of(entry: dict[str, Any], where: str) -> float:
    if "value" not in entry:
        kind = "a native histogram" if "histogram" in entry else _shown(entry)
        message = f'{where}: expected one sample, "value": [time, "number"], got {kind}'
        raise InvalidRequest(message)
    sample = entry["value"]
    if isinstance(sample, list) and len(sample) == 2 and _finite(sample[0]) is not None:
        number = _number(sample[1])
        if number is not None:
            return number
    message = f'{where}.value: expected [time, "number"], got {_shown(sample)}'
    raise InvalidRequest(message)


def _number(value: object) -> float | None:
    """A sample's value; Prometheus sends a string, and a JSON number is understood as well."""
    if not isinstance(value, str):
        return _finite(value)
    if len(value) > _MAX_NUMBER_LENGTH or not _NUMBER.fullmatch(value):
        return None
    return float(value)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _put(row: NDArray[np.float64], seen: set[str], series: _Series, where: str) -> None:
    if series.feature in seen:
        message = (
            f"{where}: prometheus: {series.feature}: expected one series, got two; aggregate them, "
            "or query one workload"
        )
        raise InvalidRequest(message)
    seen.add(series.feature)
    row[INDEX[series.feature]] = series.value


def _note(labels: dict[str, str], name: str, value: str | None, where: str) -> None:
    if value is not None and labels.setdefault(name, value) != value:
        message = (
            f"{where}: prometheus: expected the series of one workload, got {name} "
            f"{_shown(labels[name])} and {_shown(value)}"
        )
        raise InvalidRequest(message)


def _shown(value: object) -> str:
    """A received value in a message: short, and never deeper than one level."""
    if isinstance(value, dict):
        text = "an object with " + (", ".join(sorted(map(repr, value))) or "no keys")
    elif isinstance(value, list):
        text = f"[{', '.join(map(_shown_item, value[:4]))}{', …' if len(value) > 4 else ''}]"
    else:
        text = _shown_item(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _shown_item(value: object) -> str:
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    return "null" if value is None else repr(value)
