"""How often requests are slow although there is capacity: the tail of the response time.

Formulas of queueing theory, fitted where theory has none, for the two ways in which pods share the
work. The logarithm of P(response > t) falls linearly in t:

    ln P = power x ln(utilization) - idle x (1 + lone x idle²) x (decay x t / service time - offset)

where idle is 1 - utilization; the constants depend on the pods alone. `docs/simulator.md` shows the
fit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HIGHEST: Final = np.float32(0.97)
"""Above this utilization a queue does not settle within seconds; the backlog describes it."""
_MOST_PODS: Final = 512


class TailTable(NamedTuple):
    """Constants of the tail for each number of pods (P,); index 0 stands for 1 pod."""

    power: Floats
    decay: Floats
    offset: Floats


class Steady(NamedTuple):
    """The logarithm of the tail is `level` - `slope` x response time in seconds."""

    level: Floats
    slope: Floats


def shared_queue_tail(pods: NDArray[np.float64]) -> TailTable:
    """One queue before all pods: P(wait) by Sakasegawa, its decay by Kingman.

    The decay stands for regular service times and is divided by 1 + cv² later. Kingman's 2 and the
    offset are fitted to the event engine.

    Source: H. Sakasegawa, "An approximation formula L_q = a rho^b / (1 - rho)", 1977; J. Kingman,
    "On queues in heavy traffic", 1962.
    """
    decay = 2.1 * pods
    return _table(np.sqrt(2.0 * (pods + 1.0)) - 1.0, decay, 1.15 * decay)


def sharing_pods_tail(pods: NDArray[np.float64]) -> TailTable:
    """Least-connections balancing over processor-sharing pods.

    No closed form is known; powers of the pods, fitted to the event engine.
    """
    decay = 1.25 * pods**0.84
    return _table(1.47 * pods**0.81, decay, 2.0 * decay)


def _table(
    power: NDArray[np.float64], decay: NDArray[np.float64], offset: NDArray[np.float64]
) -> TailTable:
    return TailTable(*(column.astype(np.float32) for column in (power, decay, offset)))


class Tail:
    """Response times of N workloads that have a utilization, a wait, and parameters."""

    def __init__(self, lanes: int) -> None:
        pods = np.maximum(np.arange(_MOST_PODS, dtype=np.float64), 1.0)
        self._shared = shared_queue_tail(pods)
        self._sharing = sharing_pods_tail(pods)
        # One or two pods that are mostly idle clear a queue faster than their decay says.
        self._lone = (0.7 / pods).astype(np.float32)
        self.service_s = np.ones(lanes, dtype=np.float32)
        self._longest_s = np.ones(lanes, dtype=np.float32)
        self._span = np.ones(lanes, dtype=np.float32)
        self._share = np.ones(lanes, dtype=np.float32)
        self._regular = np.ones(lanes, dtype=np.float32)

    def set(self, lanes: NDArray[np.int64], parameters: dict[str, NDArray[np.float64]]) -> None:
        """Take the parameters of some lanes, each (K,)."""
        mean = parameters["service_time_s"]
        cv = np.hypot(parameters["service_cv"], parameters["pod_speed_cv"])
        half = np.clip(np.sqrt(3.0) * cv, 1e-3, 0.95)
        self.service_s[lanes] = mean
        self._longest_s[lanes] = mean * (1.0 + half)
        self._span[lanes] = -1.0 / (2.0 * mean * half)
        share = parameters["sharing_ratio"]
        self._share[lanes] = share
        self._regular[lanes] = (1.0 - share) / (1.0 + parameters["service_cv"] ** 2)

    def steady(self, used: Floats, ready: Floats) -> Steady:
        """The tail at a utilization with so many ready pods, (..., N) each."""
        used = np.clip(used, np.float32(1e-6), _HIGHEST)
        pods = np.minimum(ready.astype(np.int64), _MOST_PODS - 1)
        one, many, share, regular = self._shared, self._sharing, self._share, self._regular
        power = one.power[pods] * (np.float32(1.0) - share) + many.power[pods] * share
        decay = one.decay[pods] * regular + many.decay[pods] * share
        offset = one.offset[pods] * regular + many.offset[pods] * share
        idle = np.float32(1.0) - used
        idle += self._lone[pods] * idle * idle * idle
        return Steady(power * np.log(used) + idle * offset, idle * decay / self.service_s)

    def slower(
        self,
        bound_s: np.float32 | Floats,
        wait_s: Floats,
        steady: Steady,
        clump: np.float32 | Floats,
    ) -> Floats:
        """Share of the requests slower than a bound.

        Args:
            bound_s: One bound, or some (BOUNDS, 1).
            wait_s: What the backlog adds to every response (..., N).
            steady: The tail without backlog.
            clump: Factor on the tail.

        Returns:
            (..., N), or (BOUNDS, N) for some bounds.
        """
        left: Floats = bound_s - wait_s
        chance = left * steady.slope
        np.subtract(steady.level, chance, out=chance)
        np.minimum(chance, np.float32(0.0), out=chance)
        np.exp(chance, out=chance)
        chance *= clump
        # Without queueing a request takes its service time, taken as uniform around its mean.
        left -= self._longest_s
        left *= self._span
        np.maximum(left, chance, out=left)
        np.minimum(left, np.float32(1.0), out=left)
        return left
