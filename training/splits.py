"""Which windows a run learns from, is calibrated on, and is judged on; no two share a minute.

Calibration windows are the last week of what may be trained on: they choose multiplier and seed, so
the learner must not have seen them, and the judge's windows stay unseen by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from training.simulator.workload import Workload
from training.traces import Use, windows

CALIBRATION_DAYS: Final = 7
"""Last days of each service's training period."""
CALIBRATED: Final = ("wc98", "nasa", "twitter")
"""Services whose last days are kept for it; those that the judge has later days of."""
_EACH: Final = 60
"""Windows that each service is repeated or cut to, so that each is met as often."""
_SEASON: Final = ("taxi", 4)
"""A clean season adds little: a handful of its days is enough."""


def learning_windows(folder: Path, measured: Sequence[Workload] = ()) -> list[Workload]:
    """What is learnt from: every service as often as the others, in a fixed order.

    Args:
        folder: Where the traces lie.
        measured: Windows of a user's own traffic (`training.prepare`): together one more service.
    """
    kept = {window.name for window in calibration_windows(folder)}
    found: list[Workload] = []
    for group, members in _by_group([*windows(Use.TRAIN, folder), *measured]).items():
        rest = [window for window in members if window.name not in kept]
        count = _SEASON[1] if group == _SEASON[0] else _EACH
        found += [rest[index % len(rest)] for index in range(count)]
    return found


def calibration_windows(folder: Path) -> list[Workload]:
    """What multiplier and seed are chosen on."""
    groups = _by_group(windows(Use.TRAIN, folder))
    return [window for name in CALIBRATED for window in groups[name][-CALIBRATION_DAYS:]]


def _by_group(found: Sequence[Workload]) -> dict[str, list[Workload]]:
    groups: dict[str, list[Workload]] = {}
    for window in found:
        groups.setdefault(window.group, []).append(window)
    return groups
