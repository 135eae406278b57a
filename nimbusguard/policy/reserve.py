"""What a load as rough as it has been may want next: the replicas that the guard keeps in reserve.

A network without memory sees one minute, and cannot tell a load that jumps by a third from one
minute to the next from a load that does not. The reserve remembers two numbers of a workload: the
highest demand of late and soon, which leaks away within minutes, and the mean of the last quarter
of an hour. Above each stand a share that grows with the roughness, for jumps, and a multiple of its
square root, for the counting noise of single requests. Pure; numpy only.

Source: square-root staffing, S. Halfin and W. Whitt, "Heavy-traffic limits for queues with many
exponential servers", 1981; for the share, any safety stock in units of a forecast's deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.roughness import weight_of

_HIGHEST_MEAN: Final = 1.1
"""The mean counts up to so many times the peak: after a load has ended its mean is what is past."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveSettings:
    """How much is kept, and for how long. Found on the calibration windows (docs/training.md)."""

    smooth: float = 0.03
    """Roughness that gets no headroom: a smooth service has as much."""
    peak_headroom: float = 1.1
    """Pods kept above the peak, as share of it, for each unit of roughness above `smooth`."""
    mean_headroom: float = 3.8
    """The same above the mean."""
    peak_margin: float = 0.36
    """Pods kept above the peak for each of its square root."""
    mean_margin: float = 0.2
    """The same above the mean."""
    fall_s: float = 105.0
    """Time constant with which the peak leaks towards the newest demand, seconds, where the
    stabilization window is the default's; a workload with another window forgets in proportion."""
    mean_s: float = 900.0
    """Time constant of the mean, seconds."""
    trend_gain: float = 1.0
    """Multiple of the rise that is expected to go on (`nimbusguard.policy.trend`) by which the peak
    is ahead of the newest demand."""
    slack: float = 10.0
    """Pods above the reserve below which none is removed, for each unit of roughness: what was just
    added to a load that jumps is not removed at the next breath; a smooth one gives it back."""
    most_slack: float = 1.7
    """Most of them, pods."""

    def __post_init__(self) -> None:
        names = ("smooth", "peak_headroom", "mean_headroom", "peak_margin", "mean_margin")
        for name in (*names, "trend_gain", "slack", "most_slack"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("fall_s", "mean_s"):
            _require(getattr(self, name) > 0, name, "above 0", getattr(self, name))


class Held(NamedTuple):
    """What is remembered of B workloads, in busy pods; NaN until a demand was known."""

    peak: NDArray[np.float64]
    """Highest demand of late, leaking towards the newest (B,)."""
    mean: NDArray[np.float64]
    """Running mean (B,)."""


def hold(
    settings: ReserveSettings,
    held: Held,
    demand: NDArray[np.float64],
    *,
    coming: NDArray[np.float64],
    found: Held,
    interval_s: float,
    pace: float = 1.0,
) -> Held:
    """Take one observation in.

    Args:
        settings: How fast things are forgotten.
        held: What is remembered.
        demand: Busy pods that the load wants (B,); one that is not finite changes nothing.
        coming: What it is expected to want soon (B,): the newest of the peak.
        found: What counts as the past where nothing is remembered yet: the peak, and the most that
            the mean may be.
        interval_s: Seconds since the last observation.
        pace: How many times faster than set the peak leaks; infinity forgets it at once.
    """
    known = np.isfinite(demand)
    now, soon = np.where(known, demand, 0.0), np.where(known, coming, 0.0)
    peak = np.where(np.isnan(held.peak), found.peak, held.peak)
    mean = np.where(np.isnan(held.mean), np.minimum(now, found.mean), held.mean)
    leaked = peak + weight_of(interval_s * pace, settings.fall_s) * (soon - peak)
    moved = mean + weight_of(interval_s, settings.mean_s) * (now - mean)
    return Held(
        np.where(known, np.maximum(soon, leaked), held.peak),
        np.where(known, moved, held.mean),
    )


def needed(
    settings: ReserveSettings, held: Held, roughness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pods that the reserve asks for (B,), not rounded; 0 of what is not known."""
    rough = np.maximum(roughness - settings.smooth, 0.0)
    peak = np.nan_to_num(held.peak)
    mean = np.minimum(np.nan_to_num(held.mean), _HIGHEST_MEAN * peak)
    above_peak = peak * (1 + settings.peak_headroom * rough) + settings.peak_margin * np.sqrt(peak)
    above_mean = mean * (1 + settings.mean_headroom * rough) + settings.mean_margin * np.sqrt(mean)
    need: NDArray[np.float64] = np.maximum(above_peak, above_mean)
    return need


def carried_by(
    settings: ReserveSettings, pods: NDArray[np.int64], roughness: NDArray[np.float64]
) -> Held:
    """The past that so many pods (B,) speak of: the peak that asks for all of them.

    The mean asks for one less, so that what is not known yet adds nothing for a quarter of an hour.
    """
    rough = np.maximum(roughness - settings.smooth, 0.0)
    return Held(
        _solved(pods, 1 + settings.peak_headroom * rough, settings.peak_margin),
        _solved(np.maximum(pods - 1, 0), 1 + settings.mean_headroom * rough, settings.mean_margin),
    )


def _solved(
    pods: NDArray[np.int64], share: NDArray[np.float64], margin: float
) -> NDArray[np.float64]:
    """The x with share · x + margin · √x = pods."""
    root = (np.sqrt(margin**2 + 4 * share * pods) - margin) / (2 * share)
    return np.square(root)


def _require(holds: bool, name: str, rule: str, value: float) -> None:
    if not holds:
        message = f"guard setting {name}: expected {rule}, got {value}"
        raise InvalidRequest(message)
