"""The Kubernetes HPA as its controller runs it, for many workloads at once.

Replica calculator, stabilization and rate limits in the controller's order, with its defaults.

Source: kubernetes/kubernetes, pkg/controller/podautoscaler/replica_calculator.go and
horizontal.go; documentation "Horizontal Pod Autoscaling".
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.features import REQUEST_RATE
from nimbusguard.policy.hpa import DEFAULT_TOLERANCE
from training.baselines.memory import StabilizationWindow
from training.simulator.interface import Observation, PodMetrics

_UP_PODS: Final = 4
_UP_FACTOR: Final = 2
"""Default scale-up policies: four pods or 100 % in 15 s, whichever is more."""
_DOWN_WINDOW_INTERVALS: Final = 20
"""Default scale-down stabilization, 300 s, at the sync period of 15 s."""
_ROUNDING: Final = 1e-9


def resource_replicas(
    current: NDArray[np.int64],
    pods: PodMetrics,
    target: NDArray[np.float64],
    tolerance: float = DEFAULT_TOLERANCE,
) -> NDArray[np.int64]:
    """Replicas for a CPU utilization target: the calculator's `GetResourceReplicas`.

    Unready pods count as idle when the rest asks for more; pods without metrics count as idle when
    the rest asks for more and as fully used when it asks for fewer. If that turns the direction
    round, nothing changes.

    Args:
        current: Replicas of the scale subresource (N,).
        pods: Counts and mean utilization of the pods.
        target: Target utilization (N,), a ratio.
        tolerance: No change while the ratio lies within 1 ± tolerance.

    Returns:
        Replicas (N,); the current ones of a workload without any metric.
    """
    usage = _whole_percent(pods.cpu_utilization)
    ratio = usage / target
    up = ratio > 1.0
    idle = np.where(up, pods.unready, 0)
    plain = np.where(_within(ratio, tolerance), current, np.ceil(ratio * pods.measured - _ROUNDING))
    assumed = np.where(ratio < 1.0, pods.missing * np.maximum(1.0, target), 0.0)
    count = pods.measured + pods.missing + idle
    again = _whole_percent((usage * pods.measured + assumed) / np.maximum(count, 1)) / target
    counted = np.ceil(again * count - _ROUNDING)
    hold = (
        _within(again, tolerance)
        | ((ratio - 1.0) * (again - 1.0) < 0.0)
        | ((again < 1.0) & (counted > current))
        | ((again > 1.0) & (counted < current))
    )
    adjusted = np.where(hold, current, counted)
    wanted = np.where((idle > 0) | (pods.missing > 0), adjusted, plain)
    known = (pods.measured > 0) & np.isfinite(usage)
    return np.asarray(np.where(known, wanted, current), dtype=np.int64)


def _whole_percent(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """The controller computes utilization in whole percent, cut off."""
    percent: NDArray[np.float64] = np.floor(ratio * 100.0 + _ROUNDING) / 100.0
    return percent


def _within(ratio: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.abs(ratio - 1.0) <= tolerance + _ROUNDING
    return inside


class _Behavior:
    """Stabilization, then rate limits, as the controller's default behaviour has them."""

    def __init__(self) -> None:
        self._window = StabilizationWindow(_DOWN_WINDOW_INTERVALS)

    def apply(self, wanted: NDArray[np.int64], observation: Observation) -> NDArray[np.int64]:
        current = observation.current_replicas
        stable = self._window.apply(wanted, current, observation.time_s)
        most = np.maximum(current + _UP_PODS, current * _UP_FACTOR)
        limited: NDArray[np.int64] = np.minimum(stable, most)
        return limited


class CpuHpa:
    """HPA on mean CPU utilization."""

    def __init__(self, target: float | NDArray[np.float64] = 0.7) -> None:
        """Make the policy.

        Args:
            target: Target utilization as a ratio; one for all lanes or one for each (N,).
        """
        self.name = f"hpa-cpu-{target:.2f}" if isinstance(target, float) else "hpa-cpu"
        self._target = target
        self._behavior = _Behavior()

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        current = observation.current_replicas
        target = np.broadcast_to(np.asarray(self._target, dtype=np.float64), current.shape)
        wanted = resource_replicas(current, observation.pods, target)
        return self._behavior.apply(wanted, observation)


class RequestRateHpa:
    """HPA on requests per second and pod, an external metric with an average-value target."""

    def __init__(self, target: float | NDArray[np.float64]) -> None:
        """Make the policy.

        Args:
            target: Requests/s that each pod shall get; one for all lanes or one for each (N,).
        """
        self.name = f"hpa-rps-{target:.1f}" if isinstance(target, float) else "hpa-rps"
        self._target = target
        self._behavior = _Behavior()

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        current = observation.current_replicas
        rate = observation.raw[:, REQUEST_RATE]
        busy = rate / self._target
        steady = _within(busy / current, DEFAULT_TOLERANCE) | np.isnan(busy)
        wanted = np.where(steady, current, np.ceil(np.nan_to_num(busy) - _ROUNDING))
        return self._behavior.apply(np.maximum(wanted, 1).astype(np.int64), observation)
