"""The rule that a warm start imitates: square-root staffing on what the network sees.

It needs no model of the service: CPU in use over all pods is the offered load in pods, whatever a
request costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES, ScaleAction
from nimbusguard.contract.features import INDEX
from nimbusguard.contract.normalization import denormalize

_CPU = INDEX["cpu_utilization"]
_PODS = INDEX["pod_count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareRootRule:
    """Pods = busy + safety · √busy, with a band in which nothing is done.

    Source: Halfin and Whitt 1981, "Heavy-Traffic Limits for Queues with Many Exponential Servers".
    """

    safety: float = 1.6
    """Spare pods below which pods are added, in units of the square root of the busy pods."""
    band: float = 1.0
    """Further spare pods, in the same unit, before pods are removed."""
    saturation: float = 0.95
    """CPU utilization from which busy pods say nothing of the demand: add as many as allowed."""

    def __call__(self, state: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The allowed action (B,) nearest to what the rule wants in each state (B, F)."""
        raw = denormalize(state)
        pods = raw[:, _PODS]
        busy = raw[:, _CPU] * pods
        root = np.sqrt(busy)
        low = np.ceil(busy + self.safety * root)
        high = np.ceil(busy + (self.safety + self.band) * root)
        wish = np.clip(pods, low, np.maximum(low, high)) - pods  # (B,)
        wish = np.where(raw[:, _CPU] >= self.saturation, CHANGES.max(), wish)
        wish = np.clip(np.rint(wish), CHANGES.min(), CHANGES.max())
        distance = np.abs(CHANGES - wish[:, None])  # (B, A)
        # Between two equally near actions the one that keeps more pods.
        distance = distance - 1e-3 * np.arange(len(ScaleAction))
        nearest: NDArray[np.int64] = np.where(mask, distance, np.inf).argmin(axis=1)
        return nearest
