"""Instances that only name a workload: Prometheus has their metrics, one query a request."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nimbusguard.client.prometheus import AsyncPrometheusClient, PrometheusSettings
from nimbusguard.contract.errors import MetricsUnavailable
from nimbusguard.contract.messages import MetricRows
from nimbusguard.contract.prometheus import unknown_workload


class WorkloadLookup:
    """Looks up the metrics of named workloads.

    Args:
        endpoint: Prometheus' base URL, if there is one.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._client = (
            AsyncPrometheusClient(PrometheusSettings(endpoint=endpoint)) if endpoint else None
        )

    async def resolve(self, request: MetricRows, deadline_at: float) -> MetricRows:
        """Fill in the rows that name a workload.

        Args:
            request: With at least one lookup.
            deadline_at: On the clock of `time.perf_counter`.

        Returns:
            The request with every row known.

        Raises:
            InvalidRequest: Prometheus has no series of a workload.
            MetricsUnavailable: Prometheus does not answer, or none is configured.
        """
        if self._client is None:
            message = (
                f"instance {min(request.lookups)}: workload: expected PROMETHEUS_ENDPOINT to be "
                "set on the transformer, it is not; send the metrics themselves"
            )
            raise MetricsUnavailable(message)
        keys = {(namespace, name) for namespace, name in request.lookups.values()}
        deadline_s = max(deadline_at - time.perf_counter(), 0.0)
        found = await self._client.read_many(sorted(keys), deadline_s=deadline_s)
        rows: list[Sequence[float]] = list(request.rows)
        for index, (namespace, deployment) in request.lookups.items():
            features = found.get((namespace, deployment))
            if features is None:
                raise unknown_workload(namespace, deployment, f"instance {index}")
            rows[index] = features.tolist()
        return MetricRows(rows, request.options)

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.aclose()
