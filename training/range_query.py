"""Range queries to Prometheus for whole days of history, in chunks that it accepts.

Prometheus refuses a range of more than 11,000 points a series. A value counts at a step only if it
was recorded since the step before: without that, Prometheus would repeat a value for five minutes,
and a gap would look like a service that stands still.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from nimbusguard.client.prometheus import PrometheusSettings
from nimbusguard.client.prometheus_wire import document_of, unreachable
from nimbusguard.contract.errors import InvalidRequest, MetricsUnavailable
from nimbusguard.contract.promql import PREFIX, WorkloadKey, check_workload

MAX_POINTS: Final = 11_000
"""Points of one series in one answer. Source: Prometheus, web/api/v1, `query_range`."""
DAY_S: Final = 86_400
_RESET_WINDOW_STEPS: Final = 4
"""A reset shows while its window holds a sample from before and one from after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Steps of a range: begin, begin + step, … below end; whole Unix seconds."""

    begin_s: int
    end_s: int
    step_s: int

    def __post_init__(self) -> None:
        if self.step_s < 1 or self.begin_s % self.step_s or self.end_s % self.step_s:
            message = f"span: expected times that are multiples of step_s, got {self}"
            raise InvalidRequest(message)
        if self.begin_s >= self.end_s:
            message = f"span: expected an end after the begin, got {self}"
            raise InvalidRequest(message)

    @property
    def steps(self) -> int:
        """Points of a series without gaps."""
        return (self.end_s - self.begin_s) // self.step_s

    def chunks(self, chunk_s: int) -> list[Span]:
        """Parts that begin at multiples of the chunk's length, so that none crosses a day.

        Raises:
            InvalidRequest: The length does not divide a day, is no multiple of the step, or holds
                more points than Prometheus returns.
        """
        if DAY_S % chunk_s or chunk_s % self.step_s or chunk_s // self.step_s > MAX_POINTS:
            message = (
                f"chunk: expected seconds that divide a day and are 1 to {MAX_POINTS} steps of "
                f"{self.step_s} s, got {chunk_s}"
            )
            raise InvalidRequest(message)
        edges = range(self.begin_s // chunk_s * chunk_s, self.end_s, chunk_s)
        return [
            Span(
                begin_s=max(edge, self.begin_s),
                end_s=min(edge + chunk_s, self.end_s),
                step_s=self.step_s,
            )
            for edge in edges
        ]


def span_before(end_s: float, hours: float, step_s: int) -> Span:
    """The whole steps of some hours up to a moment.

    Raises:
        InvalidRequest: The hours are none.
    """
    if not (math.isfinite(hours) and hours > 0):
        message = f"hours: expected a number above 0, got {hours:g}"
        raise InvalidRequest(message)
    end = int(end_s // step_s) * step_s
    steps = max(round(hours * 3600 / step_s), 1)
    return Span(begin_s=end - steps * step_s, end_s=end, step_s=step_s)


def workload_named(text: str) -> WorkloadKey:
    """`namespace/name` as a key.

    Raises:
        InvalidRequest: There is no slash.
    """
    namespace, slash, name = text.partition("/")
    if not slash:
        message = f"workload: expected NAMESPACE/NAME, got {text!r}"
        raise InvalidRequest(message)
    return namespace, name


def feature_query(workloads: Sequence[WorkloadKey], step_s: int) -> str:
    """The eleven features of some workloads; of all, if none is named."""
    # A millisecond less than the step: up to Prometheus 2 a window holds both of its ends.
    return " or ".join(
        f"last_over_time({{{labels}}}[{step_s * 1000 - 1}ms])"
        for labels in _selectors(f'__name__=~"{PREFIX}.+"', workloads)
    )


def reset_query(step_s: int) -> str:
    """Resets of the request counters lately, by workload: each is a container that began anew."""
    window_s = _RESET_WINDOW_STEPS * step_s
    return (
        "sum by (namespace, workload) ("
        f"max by (namespace, pod) (resets(http_requests_total[{window_s}s]))"
        " * on (namespace, pod) group_left (workload) pod:nimbusguard_workload:owner)"
    )


def startup_query() -> str:
    """Seconds from a pod's creation to its readiness, the median over a workload's pods."""
    return (
        "quantile by (namespace, workload) (0.5, "
        "(max by (namespace, pod) (kube_pod_status_ready_time)"
        " - max by (namespace, pod) (kube_pod_created))"
        " * on (namespace, pod) group_left (workload) pod:nimbusguard_workload:owner)"
    )


class RangeClient:
    """Asks one Prometheus for ranges; retries nothing, because a collection is resumed whole."""

    def __init__(
        self, settings: PrometheusSettings, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Nothing is sent until the first query; `transport` replaces the network."""
        self._settings = settings
        # trust_env: a proxy of the environment must not come between a cluster's own services.
        self._http = httpx.Client(transport=transport, trust_env=False)

    @property
    def shown(self) -> str:
        """The endpoint without user and password."""
        return self._settings.shown

    def query(self, promql: str, span: Span) -> list[dict[str, Any]]:
        """The series of an answer, each `{"metric": labels, "values": [[time, text], …]}`.

        Raises:
            MetricsUnavailable: Prometheus was not reached, refused the query, or its answer is no
                matrix.
        """
        form = {
            "query": promql,
            "start": str(span.begin_s),
            # Both ends are inclusive.
            "end": str(span.end_s - span.step_s),
            "step": str(span.step_s),
        }
        url = self._settings.query_url + "_range"
        try:
            response = self._http.post(url, data=form, timeout=self._settings.deadline_s)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise unreachable(self._settings, exc) from exc
        document = document_of(self._settings, response.status_code, bytearray(response.content))
        return _matrix(document, self.shown)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> RangeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _matrix(document: object, shown: str) -> list[dict[str, Any]]:
    data = document.get("data") if isinstance(document, dict) else None
    result = data.get("result") if isinstance(data, dict) else None
    if not isinstance(data, dict) or data.get("resultType") != "matrix" or result is None:
        message = f"Prometheus at {shown}: expected a matrix, got {str(document)[:200]}"
        raise MetricsUnavailable(message)
    return list(result)


def _selectors(metric: str, workloads: Sequence[WorkloadKey]) -> list[str]:
    for namespace, name in workloads:
        check_workload(namespace, name, "collect")
    if not workloads:
        return [metric]
    return [
        f'{metric}, namespace="{namespace}", workload="{name}"' for namespace, name in workloads
    ]
