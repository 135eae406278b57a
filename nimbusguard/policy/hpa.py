"""The rule of the Kubernetes Horizontal Pod Autoscaler, before rate limits and stabilization.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", section "Algorithm details".
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest

DEFAULT_TOLERANCE: Final = 0.1
"""`--horizontal-pod-autoscaler-tolerance`."""
# A product that is whole on paper must not be lifted to the next integer by rounding.
_ROUNDING: Final = 1e-9


def desired_replicas(
    current: int, metric_ratio: float, *, tolerance: float = DEFAULT_TOLERANCE
) -> int:
    """Replicas that bring the metric back to its target, before bounds.

    Args:
        current: Ready replicas now, at least 1.
        metric_ratio: Observed value over target; dimensionless, finite, not negative.
        tolerance: No change while the ratio lies within 1 ± tolerance.

    Raises:
        InvalidRequest: The ratio is negative or not finite, or there is no replica.

    Source: Kubernetes, Horizontal Pod Autoscaler, "Algorithm details".
    """
    if current < 1:
        message = f"current replicas: expected at least 1, got {current}"
        raise InvalidRequest(message)
    if not math.isfinite(metric_ratio) or metric_ratio < 0:
        message = f"metric ratio: expected a finite number of at least 0, got {metric_ratio}"
        raise InvalidRequest(message)
    return int(
        desired_replicas_batch(
            np.array([current], dtype=np.int64),
            np.array([metric_ratio], dtype=np.float64),
            tolerance=tolerance,
        )[0]
    )


def desired_replicas_batch(
    current: NDArray[np.int64],
    metric_ratio: NDArray[np.float64],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
) -> NDArray[np.int64]:
    """`desired_replicas` for many workloads at once.

    Args:
        current: Ready replicas now, (B,).
        metric_ratio: Observed value over target, (B,), finite and not negative.
        tolerance: No change while the ratio lies within 1 ± tolerance.

    Returns:
        Desired replicas (B,), before bounds.
    """
    wanted = np.ceil(current * metric_ratio - _ROUNDING).astype(np.int64)
    steady = np.abs(metric_ratio - 1.0) <= tolerance + _ROUNDING
    result: NDArray[np.int64] = np.where(steady, current, wanted)
    return result
