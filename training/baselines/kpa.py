"""Knative's pod autoscaler: average concurrency over a stable and a panic window.

The controller ticks every 2 s; here it is asked at each decision interval, so it panics a little
later than it would.

Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go and config defaults.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.simulator.interface import Observation

_STABLE_S: Final = 60
_PANIC_THRESHOLD: Final = 2.0
_MAX_UP: Final = 1000.0
_MAX_DOWN: Final = 2.0


class KnativePodAutoscaler:
    """KPA with its default windows, panic threshold and rate limits."""

    def __init__(self, target: float | NDArray[np.float64] = 0.7) -> None:
        """Make the policy.

        Args:
            target: Concurrent requests wanted in each pod; one for all lanes or for each (N,).
        """
        self.name = f"kpa-{target:.2f}" if isinstance(target, float) else "kpa"
        self._target = target
        self._panic_until = np.zeros(0, dtype=np.int64)
        self._panic_pods = np.zeros(0, dtype=np.int64)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        now = observation.time_s
        if len(self._panic_until) != len(now):
            self._panic_until = np.full(len(now), -1, dtype=np.int64)
            self._panic_pods = np.zeros(len(now), dtype=np.int64)
        begins = now == 0
        self._panic_until[begins] = -1
        self._panic_pods[begins] = 0
        ready = np.maximum(observation.ready_replicas, 1)
        most, least = np.ceil(_MAX_UP * ready), np.floor(ready / _MAX_DOWN)
        stable = np.ceil(observation.concurrency[:, 0] / self._target)
        panic = np.ceil(observation.concurrency[:, 1] / self._target)
        wanted = np.clip(stable, least, most).astype(np.int64)
        urgent = np.clip(panic, least, most).astype(np.int64)
        over = panic / ready >= _PANIC_THRESHOLD
        self._panic_until = np.where(over, now + _STABLE_S, self._panic_until)
        panicking = now <= self._panic_until
        # While panicking, replicas only rise.
        highest = np.maximum(self._panic_pods, np.maximum(wanted, urgent))
        self._panic_pods = np.where(panicking, highest, 0)
        return np.asarray(np.where(panicking, self._panic_pods, wanted), dtype=np.int64)
