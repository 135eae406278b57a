"""Metrics in: the raw features of many workloads in few queries, before a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from autoscaler.evidence import NOTHING, Raw
from nimbusguard.contract.errors import NimbusGuardError

Workload = tuple[str, str]
"""Labels `namespace` and `workload`."""
BATCH: Final = 100
"""Workloads in one query: the names stay well under Prometheus' limit for a request."""


class Reading(NamedTuple):
    """What is known of one workload."""

    raw: Raw
    problem: str | None
    """Why nothing is known; None otherwise."""


class Prometheus(Protocol):
    """What is needed of `AsyncPrometheusClient`."""

    async def read_many(
        self, workloads: Sequence[Workload], *, deadline_s: float | None = None
    ) -> dict[Workload, NDArray[np.float64]]:
        """Raw features by workload; one without series is left out."""
        ...


async def observe(
    prometheus: Prometheus, workloads: Sequence[Workload], *, deadline_s: float
) -> dict[Workload, Reading]:
    """The raw features of workloads; each has a reading, whatever happened.

    Args:
        prometheus: Whom to ask.
        workloads: Labels; a workload may be named more than once.
        deadline_s: Seconds for all of it.
    """
    distinct = list(dict.fromkeys(workloads))
    batches = [distinct[first : first + BATCH] for first in range(0, len(distinct), BATCH)]
    readings = await asyncio.gather(*(_batch(prometheus, batch, deadline_s) for batch in batches))
    return {workload: reading for found in readings for workload, reading in found.items()}


async def _batch(
    prometheus: Prometheus, workloads: Sequence[Workload], deadline_s: float
) -> dict[Workload, Reading]:
    try:
        rows = await prometheus.read_many(workloads, deadline_s=deadline_s)
    except NimbusGuardError as exc:
        return dict.fromkeys(workloads, Reading(NOTHING, str(exc)))
    return {
        workload: Reading(tuple(rows[workload].tolist()), None)
        if workload in rows
        else Reading(NOTHING, "Prometheus has no series of the workload")
        for workload in workloads
    }
