"""The rule that a warm start imitates: square-root staffing on what the network sees.

It needs no model of the service: CPU in use over all pods is the offered load in pods, whatever a
request costs. It remembers nothing, so it cannot wait out a window; instead it removes a pod only
at moments when fewer requests than usual are in flight. Such moments come by chance every few
minutes while the load is steady, and hardly ever while it rises: a window made of luck.
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
_QUEUE = INDEX["queue_depth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffingRule:
    """Pods = busy + safety · √busy; more at once if requests pile up, fewer only when it is quiet.

    Source: Halfin and Whitt 1981, "Heavy-Traffic Limits for Queues with Many Exponential Servers".
    The defaults lie between what the cross-entropy method found for it raw and inside the guard
    (docs/training.md).
    """

    safety: float = 0.5
    """Spare pods below which pods are added, in units of the square root of the busy pods."""
    band: float = 1.0
    """Pods above that before any is removed; of less than a pod not more than as much again."""
    far: float = 5.0
    """Pods above that before two are removed at once."""
    quiet: float = 0.8
    """Requests in flight over busy pods, at least one of them, up to which a pod may be removed."""
    crowded: float = 1.5
    """Requests in flight over pods, beyond `slack`, from which a pod is added."""
    jammed: float = 1.9
    """The same from which two are added."""
    slack: float = 3.3
    """Requests in flight that say nothing, however few the pods."""
    saturation: float = 0.93
    """CPU utilization from which busy pods say nothing of the demand: add as many as allowed."""

    def __call__(self, state: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The allowed action (B,) nearest to what the rule wants in each state (B, F)."""
        raw = denormalize(state)
        pods, cpu, queue = raw[:, _PODS], raw[:, _CPU], raw[:, _QUEUE]
        busy = cpu * pods
        need = busy + self.safety * np.sqrt(busy)
        lowest = np.ceil(need)
        band = self.band * np.minimum(need, 1.0)
        wish = np.clip(pods, lowest, np.maximum(lowest, np.ceil(need + band))) - pods
        most = np.where(pods - need < self.far, -1.0, CHANGES.min())
        wish = np.where(wish < 0, np.maximum(wish, most), wish)
        wish = np.where((wish < 0) & (queue > self.quiet * np.maximum(busy, 1.0)), 0.0, wish)
        crowd = (queue - self.slack) / pods
        wish = np.where(crowd > self.crowded, np.maximum(wish, 1.0), wish)
        wish = np.where((crowd > self.jammed) | (cpu >= self.saturation), CHANGES.max(), wish)
        wish = np.clip(np.rint(wish), CHANGES.min(), CHANGES.max())
        distance = np.abs(CHANGES - wish[:, None])  # (B, A)
        # Between two equally near actions the one that keeps more pods.
        distance = distance - 1e-3 * np.arange(len(ScaleAction))
        nearest: NDArray[np.int64] = np.where(mask, distance, np.inf).argmin(axis=1)
        return nearest
