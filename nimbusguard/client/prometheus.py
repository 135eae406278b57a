"""`AsyncPrometheusClient` and `PrometheusClient`: the raw features of a workload, from Prometheus.

One POST to `/api/v1/query`, once: whoever asks has a control loop that will ask again. What may go
wrong on the way is `MetricsUnavailable` with its cause chained; a workload that Prometheus knows
nothing of is `InvalidRequest`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TypedDict

import httpx
import numpy as np
from numpy.typing import NDArray

from nimbusguard.client.prometheus_wire import (
    PrometheusSettings,
    Rows,
    check_size,
    document_of,
    overdue,
    remaining_of,
    row_of,
    rows_of,
    unreachable,
)
from nimbusguard.contract.promql import WorkloadKey, workload_query, workloads_query

__all__ = ["AsyncPrometheusClient", "PrometheusClient", "PrometheusSettings", "Rows"]


class AsyncPrometheusClient:
    """Asks Prometheus; one per process, safe for many tasks at once.

    The deadline is absolute: whatever the server does, a call ends by then.

    Example::

        settings = PrometheusSettings(endpoint="http://prometheus:9090")
        async with AsyncPrometheusClient(settings) as client:
            row = await client.read("shop", "web")  # (F,)
    """

    def __init__(
        self, settings: PrometheusSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Nothing is sent until the first call; `transport` replaces the network."""
        self._settings = settings
        # trust_env: a proxy of the environment must not come between a cluster's own services.
        self._http = httpx.AsyncClient(
            transport=transport, trust_env=False, limits=_limits(settings)
        )

    async def read(
        self, namespace: str, deployment: str, *, deadline_s: float | None = None
    ) -> NDArray[np.float64]:
        """The raw features (F,) of one workload; NaN for absent.

        Args:
            namespace: Its namespace.
            deployment: Its name.
            deadline_s: Seconds for this call, instead of the settings'.

        Raises:
            InvalidRequest: A name is none, or Prometheus has no series of the workload.
            MetricsUnavailable: Prometheus was not reached, too slow, refused the query, or its
                answer cannot be used.
        """
        query = workload_query(namespace, deployment, max_age_s=self._settings.max_age_s)
        rows = rows_of(self._settings, await self.query(query, deadline_s=deadline_s))
        return row_of(self._settings, rows, (namespace, deployment))

    async def read_many(
        self, workloads: Iterable[WorkloadKey], *, deadline_s: float | None = None
    ) -> Rows:
        """The raw features of many workloads in one query; one without series is left out.

        Raises:
            InvalidRequest: A name is none, or there is no workload to ask for.
            MetricsUnavailable: As `read`.
        """
        query = workloads_query(workloads, max_age_s=self._settings.max_age_s)
        return rows_of(self._settings, await self.query(query, deadline_s=deadline_s))

    async def query(self, promql: str, *, deadline_s: float | None = None) -> object:
        """The answer to any instant query, as Prometheus gave it.

        Raises:
            MetricsUnavailable: As `read`.
        """
        remaining_s = remaining_of(self._settings, deadline_s)
        body = bytearray()
        try:
            async with (
                asyncio.timeout(remaining_s),
                self._http.stream(**_request(self._settings, promql, remaining_s)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    check_size(self._settings, body)
        except TimeoutError as exc:
            raise overdue(self._settings, remaining_s) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise unreachable(self._settings, exc) from exc
        return document_of(self._settings, response.status_code, body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncPrometheusClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class PrometheusClient:
    """`AsyncPrometheusClient` for programs without an event loop; safe for many threads at once.

    The deadline is checked whenever bytes of the body arrive, and no wait is longer than the time
    that was left when the query began. A server that trickles the headers can outlast it; who needs
    an absolute deadline uses `AsyncPrometheusClient`.
    """

    def __init__(
        self,
        settings: PrometheusSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """See `AsyncPrometheusClient`; `clock` gives seconds from any origin, never going back."""
        self._settings = settings
        self._clock = clock
        self._http = httpx.Client(transport=transport, trust_env=False, limits=_limits(settings))

    def read(
        self, namespace: str, deployment: str, *, deadline_s: float | None = None
    ) -> NDArray[np.float64]:
        """The raw features (F,) of one workload; see `AsyncPrometheusClient.read`."""
        query = workload_query(namespace, deployment, max_age_s=self._settings.max_age_s)
        rows = rows_of(self._settings, self.query(query, deadline_s=deadline_s))
        return row_of(self._settings, rows, (namespace, deployment))

    def read_many(
        self, workloads: Iterable[WorkloadKey], *, deadline_s: float | None = None
    ) -> Rows:
        """The raw features of many workloads; see `AsyncPrometheusClient.read_many`."""
        query = workloads_query(workloads, max_age_s=self._settings.max_age_s)
        return rows_of(self._settings, self.query(query, deadline_s=deadline_s))

    def query(self, promql: str, *, deadline_s: float | None = None) -> object:
        """The answer to any instant query; see `AsyncPrometheusClient.query`."""
        remaining_s = remaining_of(self._settings, deadline_s)
        ends = self._clock() + remaining_s
        body = bytearray()
        try:
            with self._http.stream(**_request(self._settings, promql, remaining_s)) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    check_size(self._settings, body)
                    if self._clock() > ends:
                        raise overdue(self._settings, remaining_s)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise unreachable(self._settings, exc) from exc
        return document_of(self._settings, response.status_code, body)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> PrometheusClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Request(TypedDict):
    method: str
    url: str
    data: dict[str, str]
    timeout: httpx.Timeout


def _request(settings: PrometheusSettings, promql: str, remaining_s: float) -> _Request:
    # `timeout` lets Prometheus stop an evaluation that nobody waits for any more.
    form = {"query": promql, "timeout": f"{max(1, int(remaining_s * 1000))}ms"}
    connect_s = min(settings.connect_timeout_s, remaining_s)
    timeout = httpx.Timeout(remaining_s, connect=connect_s)
    return _Request(method="POST", url=settings.query_url, data=form, timeout=timeout)


def _limits(settings: PrometheusSettings) -> httpx.Limits:
    # An idle connection is closed after 5 s (httpx), long before Prometheus would (5 min), so that
    # none is used at the moment in which the other side closes it.
    return httpx.Limits(
        max_connections=settings.max_connections, max_keepalive_connections=settings.max_connections
    )
