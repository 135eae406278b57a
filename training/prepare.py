"""What may be learnt from a collected data set, by a rule that is written down and never silent.

The rule, workload by workload, in this order:

1. A required feature that vanished, a fingerprint of another contract, or less than half of the
   steps usable: the workload is refused.
2. A step without a required feature, or within four steps after a counter reset, is a gap. Nothing
   is filled in: between two gaps lies a segment, and one shorter than two hours is left out.
3. A segment's request rate becomes a window of traffic to learn from. Actions and rewards are never
   taken from it: the simulator makes those.

What is refused stands in `report.json` with its reasons. Whether training then goes on with the
shipped traces alone or not at all is the caller's choice (`Rule`), and it is recorded as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX
from nimbusguard.contract.fingerprint import FINGERPRINT
from training.dataset import read_manifest, read_samples, write_document
from training.inspection import REQUIRED, Course, courses, describe, runs
from training.measured import ARRIVALS_FILE, GROUP, arrivals_document
from training.range_query import Span
from training.simulator.workload import Workload, scaled_to_peak

REPORT_FILE: Final = "report.json"
MIN_USABLE_RATIO: Final = 0.5
"""Below it the gaps say more about the workload than the samples do."""
MIN_SEGMENT_S: Final = 7200
"""The length of an episode: traffic beyond the end of a shorter window would have to be made up."""
_MIN_RATE: Final = 0.1
"""Requests/s below which one request's CPU is lost in what an idle pod uses."""
SERVICE_TIME_RANGE_S: Final = (0.02, 0.1)
STARTUP_RANGE_S: Final = (5.0, 40.0)
"""What the simulator trains for; docs/training.md, "The clusters"."""


class Rule(Enum):
    """What follows if no workload may be learnt from."""

    REQUIRE = "require"
    """Refuse to train."""
    REPORT = "report"
    """Train on the shipped traces alone, and say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What the simulator's generator would have to be set to for a workload."""

    service_time_s: float | None
    """Mean pod-seconds of a request: CPU in use over all pods, in pods, per request/s."""
    startup_s: float | None
    """Median seconds from a pod's creation to its readiness."""
    peak_rate: float
    """99.9th percentile of the request rate, requests/s."""


def prepare(folder: Path, out: Path, rule: Rule) -> dict[str, Any]:
    """Apply the rule to a data set; write `arrivals.json` and `report.json`.

    Returns:
        The report: `usable`, the windows' names, and each workload's fit or reasons.

    Raises:
        NotFound: The collection did not finish.
        ArtifactCorrupted: A file is not what the manifest says.
        InvalidRequest: Nothing may be learnt from, and the rule demands it.
    """
    manifest = read_manifest(folder)
    span = Span(**manifest["plan"]["span"])
    found = list(courses(read_samples(folder), span))
    windows: list[Workload] = []
    workloads = []
    for course in found:
        reasons = refusals(course, span, manifest["fingerprint"])
        own = [] if reasons else segments(course, span)
        if not reasons and not own:
            reasons = [f"no {MIN_SEGMENT_S} s without a gap"]
        windows += own
        workloads.append(_told(course, own, reasons))
    report = {
        "data": manifest["sha256"],
        "rule": rule.value,
        "usable": bool(windows),
        "trained_on": [GROUP, "shipped traces"] if windows else ["shipped traces"],
        "windows": [window.name for window in windows],
        "workloads": workloads,
    }
    write_document(out / REPORT_FILE, report)
    if not windows and rule is Rule.REQUIRE:
        message = f"data set {folder}: expected a workload to learn from, got {_why(workloads)}"
        raise InvalidRequest(message)
    write_document(out / ARRIVALS_FILE, arrivals_document(windows))
    return report


def refusals(course: Course, span: Span, fingerprint: str = FINGERPRINT) -> list[str]:
    """Why a workload may not be learnt from; empty if it may."""
    described = describe(course, span)
    reasons = []
    if fingerprint != FINGERPRINT:
        reasons.append(f"collected for the contract {fingerprint}, this is {FINGERPRINT}")
    vanished = [name for name in described["vanished_features"] if name in REQUIRED]
    if vanished:
        reasons.append(f"vanished before the end: {', '.join(vanished)}")
    usable = 1.0 - described["gap_ratio"]
    if usable < MIN_USABLE_RATIO:
        reasons.append(f"{usable:.0%} of the steps are usable, less than {MIN_USABLE_RATIO:.0%}")
    return reasons


def segments(course: Course, span: Span) -> list[Workload]:
    """Windows of traffic between the gaps, each long enough and with any request in it."""
    rate = course.values[:, INDEX["request_rate"]]
    return [
        scaled_to_peak(
            f"{GROUP}-{course.namespace}-{course.workload}-{span.begin_s + first * span.step_s}",
            GROUP,
            float(span.step_s),
            rate[first:last] * span.step_s,
        )
        for first, last in runs(course.usable)
        if (last - first) * span.step_s >= MIN_SEGMENT_S and rate[first:last].max() > 0.0
    ]


def fit(course: Course) -> Fit:
    """Service time, start-up time and peak rate as they were measured."""
    usable = course.usable
    rate = course.values[usable, INDEX["request_rate"]]
    busy = (course.values[:, INDEX["cpu_utilization"]] * course.values[:, INDEX["pod_count"]])[
        usable
    ]
    loaded = rate >= _MIN_RATE
    starts = course.startup_s[np.isfinite(course.startup_s)]
    return Fit(
        service_time_s=float(np.median(busy[loaded] / rate[loaded])) if loaded.any() else None,
        startup_s=float(np.median(starts)) if starts.size else None,
        peak_rate=float(np.percentile(rate, 99.9)) if rate.size else 0.0,
    )


def _told(course: Course, windows: Sequence[Workload], reasons: list[str]) -> dict[str, Any]:
    found = fit(course)
    return {
        "namespace": course.namespace,
        "workload": course.workload,
        "windows": len(windows),
        "refused": reasons,
        "service_time_s": found.service_time_s,
        "startup_s": found.startup_s,
        "peak_rate": found.peak_rate,
        "outside_training_ranges": _outside(found),
    }


def _outside(found: Fit) -> list[str]:
    ranges = {
        "service_time_s": (found.service_time_s, SERVICE_TIME_RANGE_S),
        "startup_s": (found.startup_s, STARTUP_RANGE_S),
    }
    return [
        f"{name} {value:.3g} outside {low:g} to {high:g}"
        for name, (value, (low, high)) in ranges.items()
        if value is not None and not low <= value <= high
    ]


def _why(workloads: Sequence[Mapping[str, Any]]) -> str:
    if not workloads:
        return "no samples of any workload"
    return "; ".join(
        f"{each['namespace']}/{each['workload']}: {', '.join(each['refused'])}"
        for each in workloads
    )
