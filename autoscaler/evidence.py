"""Whether metrics may be believed: a function of the newest reading and of the ones before it.

Bad data must not look like an idle service. A flaw never adds anything to a decision; it only takes
away: what is missing forbids to remove replicas, what cannot be true forbids any change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX, STATE_DIM
from nimbusguard.contract.normalization import NO_FEATURES, impute

Raw = tuple[float, ...]
"""(F,) raw features; NaN means absent."""
NOTHING: Final[Raw] = (float("nan"),) * STATE_DIM
"""A reading that did not come."""

_NEVER_ZERO: Final = tuple(
    INDEX[name] for name in ("memory_utilization", "memory_pressure", "node_utilization")
)
"""A pod that runs holds memory, and so does its node, which also spends CPU."""
_PODS: Final = INDEX["pod_count"]
_RATE: Final = INDEX["request_rate"]


class Flaw(StrEnum):
    """What is wrong with a reading."""

    MISSING = "missing"
    """A metric is absent that may not be: stale, never scraped, or Prometheus did not answer."""
    IMPLAUSIBLE = "implausible"
    """A value cannot be: negative, or no memory in use by a workload that runs."""
    FROZEN = "frozen"
    """Nothing has changed for a while although requests come in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """When a reading is flawed."""

    frozen_after_s: float = 60.0
    """Seconds of bit-identical readings under traffic after which they are frozen: four intervals.
    Eleven measured averages do not stay equal to the last bit for so long."""
    absent_as_zero: tuple[str, ...] = ()
    """Features whose absence means 0 (`ABSENT_AS_ZERO`)."""

    def __post_init__(self) -> None:
        if not self.frozen_after_s > 0.0:
            message = f"frozen_after_s: expected more than 0, got {self.frozen_after_s}"
            raise InvalidRequest(message)


@dataclass(frozen=True, slots=True)
class Trail:
    """What is remembered of earlier readings."""

    raw: Raw = NOTHING
    same_since_s: float = 0.0
    """When this reading was first seen."""


def assess(
    settings: EvidenceSettings,
    trail: Trail,
    raw: Raw,
    *,
    now_s: float,
    absent_as_zero: NDArray[np.bool_] = NO_FEATURES,
) -> tuple[Trail, frozenset[Flaw]]:
    """Judge a reading.

    Args:
        settings: When it is flawed.
        trail: What the previous call returned.
        raw: (F,) the newest reading.
        now_s: Seconds on a clock that does not run backwards.
        absent_as_zero: Mask (F,) of `settings.absent_as_zero`.

    Returns:
        The trail for the next call, and what is wrong.
    """
    values = np.array(raw)
    flaws = set()
    if impute(values[None], absent_as_zero).refused.any():
        flaws.add(Flaw.MISSING)
    if (values < 0.0).any() or (values[list(_NEVER_ZERO)] == 0.0).any() or values[_PODS] < 1.0:
        flaws.add(Flaw.IMPLAUSIBLE)
    same = np.array_equal(values, np.array(trail.raw), equal_nan=True)
    trail = trail if same else Trail(raw, now_s)
    if values[_RATE] > 0.0 and now_s - trail.same_since_s >= settings.frozen_after_s:
        flaws.add(Flaw.FROZEN)
    return trail, frozenset(flaws)
