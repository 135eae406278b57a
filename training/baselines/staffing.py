"""Staffing rules: the square root of the load above it, and a number that never changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.features import REQUEST_RATE
from training.baselines.memory import StabilizationWindow
from training.simulator.interface import Observation


class SquareRootStaffing:
    """Offered load R = rate x service time, and beta sqrt(R) pods more.

    Source: S. Halfin and W. Whitt, "Heavy-traffic limits for queues with many exponential
    servers", 1981. It knows the service time, which the HPA does not.
    """

    def __init__(
        self,
        beta: float | NDArray[np.float64],
        service_time_s: float,
        *,
        window_intervals: int = 1,
    ) -> None:
        """Make the policy.

        Args:
            beta: Safety factor; one for all lanes or one for each (N,).
            service_time_s: Mean service time.
            window_intervals: Decisions in the scale-down stabilization window; 1 is none.
        """
        suffix = f"-{beta:.2f}" if isinstance(beta, float) else ""
        self.name = f"square-root{suffix}-w{window_intervals}"
        self._beta = beta
        self._service_time_s = service_time_s
        self._window = StabilizationWindow(window_intervals)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        current = observation.current_replicas
        load = observation.raw[:, REQUEST_RATE] * self._service_time_s
        known = np.isfinite(load)
        load = np.where(known, load, 0.0)
        staffed = np.maximum(np.ceil(load + self._beta * np.sqrt(load)), 1.0)
        wanted = np.where(known, staffed, current).astype(np.int64)
        return self._window.apply(wanted, current, observation.time_s)


class StaticReplicas:
    """The same replicas at all times: provisioning for the peak."""

    def __init__(self, replicas: int | NDArray[np.int64]) -> None:
        """Make the policy.

        Args:
            replicas: Pods; one number for all lanes or one for each (N,).
        """
        self.name = f"static-{replicas}" if isinstance(replicas, int) else "static"
        self._replicas = replicas

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        shape = observation.current_replicas.shape
        return np.broadcast_to(np.asarray(self._replicas, dtype=np.int64), shape).copy()
