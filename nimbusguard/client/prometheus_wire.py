"""What is sent to Prometheus and what its answers mean: no HTTP library, no clock, no IO."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest, MetricsUnavailable
from nimbusguard.contract.prometheus import split_instant_answer, unknown_workload
from nimbusguard.contract.promql import WorkloadKey

Rows = dict[WorkloadKey, NDArray[np.float64]]
"""Namespace and name of a workload to its raw features (F,)."""

_MAX_QUOTED: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusSettings:
    """Which Prometheus to ask, and how long to wait."""

    endpoint: str
    """http(s)://[user:password@]host[:port][/prefix], what stands before `/api/v1/query`."""
    deadline_s: float = 1.0
    """Seconds for one query. Half of what the transformer has for a whole request; an instant query
    of eleven recorded series takes a few milliseconds."""
    connect_timeout_s: float = 0.5
    """Seconds to open a connection; inside a cluster it takes a millisecond or is lost."""
    max_age_s: int | None = 60
    """Values recorded longer ago count as absent: four evaluations of the recording rules. None
    leaves it to Prometheus, which returns a value for five minutes."""
    max_connections: int = 16
    """Connections kept open, and queries under way at once."""
    max_answer_bytes: int = 16 * 1024 * 1024
    """Bytes of an answer that are read before it is given up; one workload takes about 2 KiB."""

    def __post_init__(self) -> None:
        _check_endpoint(self.endpoint)
        for name in ("deadline_s", "connect_timeout_s", "max_connections", "max_answer_bytes"):
            _check_positive(name, getattr(self, name))
        if self.max_age_s is not None:
            _check_positive("max_age_s", self.max_age_s)

    @property
    def query_url(self) -> str:
        """Where instant queries go."""
        return self.endpoint.rstrip("/") + "/api/v1/query"

    @property
    def shown(self) -> str:
        """The endpoint as a message may show it: without user and password."""
        parts = urlsplit(self.endpoint)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def remaining_of(settings: PrometheusSettings, deadline_s: float | None) -> float:
    """Seconds that a query has, the caller's or the settings'; raises if there are none."""
    remaining_s = settings.deadline_s if deadline_s is None else deadline_s
    if remaining_s <= 0:
        raise overdue(settings, remaining_s)
    return remaining_s


def document_of(settings: PrometheusSettings, status: int, body: bytearray) -> object:
    """The decoded answer; raises for any status but 200, and for a body that is no JSON."""
    quoted = body[:_MAX_QUOTED].decode("utf-8", "replace")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        message = f"{_named(settings)}: expected 200 and JSON, got {status} and {quoted!r}"
        raise MetricsUnavailable(message) from exc
    if status != 200:
        stated = document.get("error") if isinstance(document, dict) else None
        said = stated[:_MAX_QUOTED] if isinstance(stated, str) else quoted
        message = f"{_named(settings)}: expected 200, got {status}: {said}"
        raise MetricsUnavailable(message)
    return document


def rows_of(settings: PrometheusSettings, document: object) -> Rows:
    """The rows of an answer; what is wrong with it is no fault of the caller's."""
    try:
        return split_instant_answer(document, _named(settings))
    except InvalidRequest as exc:
        raise MetricsUnavailable(str(exc)) from exc


def row_of(settings: PrometheusSettings, rows: Rows, workload: WorkloadKey) -> NDArray[np.float64]:
    """The row (F,) of one workload; raises InvalidRequest if there is none."""
    if workload not in rows:
        raise unknown_workload(*workload, _named(settings))
    return rows[workload]


def check_size(settings: PrometheusSettings, body: bytearray) -> None:
    """Give up an answer that does not end."""
    if len(body) > settings.max_answer_bytes:
        message = (
            f"{_named(settings)}: expected at most {settings.max_answer_bytes} bytes, got more"
        )
        raise MetricsUnavailable(message)


def overdue(settings: PrometheusSettings, remaining_s: float) -> MetricsUnavailable:
    """The error for an answer that would have come too late."""
    waited = f"within {remaining_s:.3f} s" if remaining_s > 0 else "but no time was left to ask"
    return MetricsUnavailable(f"{_named(settings)}: expected an answer {waited}")


def unreachable(settings: PrometheusSettings, error: Exception) -> MetricsUnavailable:
    """The error for an exchange that broke, in the words of the HTTP library."""
    said = str(error) or type(error).__name__
    return MetricsUnavailable(f"{_named(settings)}: expected an answer, got none: {said}")


def _named(settings: PrometheusSettings) -> str:
    return f"Prometheus at {settings.shown}"


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        usable = False
    else:
        usable = usable and parts.scheme in ("http", "https") and not parts.query + parts.fragment
    if not usable:
        message = (
            "Prometheus endpoint: expected http(s)://host[:port][/prefix], "
            f"got {endpoint.rpartition('@')[2]!r}"
        )
        raise InvalidRequest(message)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        message = f"{name}: expected a number above 0, got {value}"
        raise InvalidRequest(message)
