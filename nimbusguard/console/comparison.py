"""Was it better than the HPA? An estimate from what was recorded, with its reasons. Pure.

The HPA did not run, so what it would have held is computed from the CPU utilization and the
replicas that were recorded: the rule's wish at the decision before and, as its controller does, the
highest wish of the last five minutes. CPU work does not depend on the number of pods it is spread
over, so utilization under the HPA's pods is ours times our pods over its pods. What its users would
have waited cannot be known; where that utilization exceeds 1 they would have.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nimbusguard.contract.features import INDEX
from nimbusguard.policy.hpa import desired_replicas

if TYPE_CHECKING:
    from nimbusguard.console.decisions import Decision

HPA_TARGET: Final = 0.7
"""CPU utilization that the compared HPA keeps; that of the operator's fallback rule."""
STABILIZATION_S: Final = 300.0
"""The HPA's default window for scaling down."""
WINDOW_S: Final = 300.0
"""What is judged: the last five minutes."""
NEEDED_S: Final = WINDOW_S + STABILIZATION_S
"""How far back decisions count: those before the window hold the HPA up."""
_LONGEST_S: Final = 120.0
"""A decision counts until the next one, but no longer than this: then nobody looked."""
_SAME: Final = 0.02
"""Pod-time within this ratio is the same."""
_VIOLATING: Final = 0.01
"""Share of requests that may be slow or failed: the service objective of the gate."""
_HIGHEST_RATIO: Final = 1e3
MOST_REPLICAS: Final = 1_000_000
"""Where no bound is known."""
_CPU: Final = INDEX["cpu_utilization"]
_RATE: Final = INDEX["request_rate"]
_P95: Final = INDEX["response_time_p95"]
_ERRORS: Final = INDEX["error_rate"]
_SLOW_SHARE: Final = 0.05
"""A p95 above the objective says that one request in twenty was slower, and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Five minutes of ours beside five minutes of the HPA."""

    verdict: str
    """`better`, `same`, `worse` or `unknown`."""
    reason: str
    """One sentence."""
    decisions: int
    changes: int
    """Decisions that were carried out."""
    covered_s: float
    """Seconds of the window that these decisions speak of; the rest nobody knows."""
    pod_hours: float
    hpa_pod_hours: float | None
    violating_share: float | None
    """Share of requests that were slow or failed, as far as p95 and error rate tell."""
    hpa_starved_share: float | None
    """Share of the time in which the HPA's pods would have needed more CPU than they have."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


class Bounds(NamedTuple):
    """Replicas that a workload may have; the HPA would be held to them too."""

    least: int = 1
    most: int = MOST_REPLICAS


def hpa_wish(
    raw: Sequence[float], current: int, bounds: Bounds, *, target: float = HPA_TARGET
) -> int | None:
    """The replicas that the HPA's rule asks for, within bounds; None without what it needs."""
    cpu = raw[_CPU]
    if not cpu >= 0.0 or current < 1:  # NaN compares false
        return None
    wish = desired_replicas(current, min(cpu / target, _HIGHEST_RATIO))
    return min(max(wish, bounds.least), bounds.most)


def hpa_held(decisions: Sequence[Decision], bounds: Bounds) -> list[int | None]:
    """The HPA's replicas at each decision: its highest wish within the stabilization window.

    What it wishes at a decision stands at the next one: pods take their time to start. None where
    the rule lacks what it needs.

    Args:
        decisions: Of one workload, oldest first.
        bounds: Of the workload.
    """
    held: list[int | None] = []
    falling: deque[tuple[float, int]] = deque()  # earlier wishes that no later one exceeds
    for one in decisions:
        while falling and falling[0][0] < one.at_s - STABILIZATION_S:
            falling.popleft()
        wish = hpa_wish(one.raw, one.current_replicas, bounds)
        if wish is None:
            held.append(None)
            continue
        held.append(max(falling[0][1] if falling else wish, 1))
        while falling and falling[-1][1] <= wish:
            falling.pop()
        falling.append((one.at_s, wish))
    return held


def compare(
    decisions: Sequence[Decision], bounds: Bounds, *, now_s: float, latency_s: float | None
) -> Comparison:
    """Judge the last five minutes.

    Args:
        decisions: Of one workload, oldest first; those before the window count for the HPA's
            stabilization.
        bounds: Of the workload.
        now_s: Unix time.
        latency_s: A slower p95 violates the objective; None where there is none.
    """
    first = next((i for i, one in enumerate(decisions) if one.at_s > now_s - WINDOW_S), None)
    recent = decisions[first:] if first is not None else ()
    spans = [_span_s(recent, index, now_s) for index in range(len(recent))]
    ours = math.fsum(one.current_replicas * span for one, span in zip(recent, spans, strict=True))
    violating = _violating(recent, spans, latency_s)
    held = hpa_held(decisions, bounds)[len(decisions) - len(recent) :]
    verdict, reason = "unknown", "no decision in the last five minutes"
    theirs = share = None
    if recent and None in held:
        reason = "the HPA's rule lacks CPU utilization or a replica in some decisions"
    elif recent:
        pods = [float(wish or 1) for wish in held]
        theirs = math.fsum(wish * span for wish, span in zip(pods, spans, strict=True))
        starved = math.fsum(
            span
            for one, span, wish in zip(recent, spans, pods, strict=True)
            if one.raw[_CPU] * one.current_replicas > wish
        )
        share = starved / max(math.fsum(spans), 1e-9)
        verdict, reason = _judge(recent, ours, theirs, share, violating)
    return Comparison(
        verdict=verdict,
        reason=reason,
        decisions=len(recent),
        changes=sum(one.applied for one in recent),
        covered_s=math.fsum(spans),
        pod_hours=ours / 3600.0,
        hpa_pod_hours=None if theirs is None else theirs / 3600.0,
        violating_share=violating,
        hpa_starved_share=share,
    )


def _judge(
    recent: Sequence[Decision],
    ours: float,
    theirs: float,
    starved: float,
    violating: float | None,
) -> tuple[str, str]:
    """The verdict, by a table: pods first, then who would have suffered for them."""
    if recent[-1].mode != "act":
        return "unknown", f"mode is {recent[-1].mode}: nothing is scaled, so there is no difference"
    change = (ours - theirs) / max(theirs, 1e-9)
    pods = f"{_percent(abs(change))} {'more' if change > 0 else 'fewer'} pod-hours than the HPA"
    hurt = violating is not None and violating > _VIOLATING
    if abs(change) <= _SAME:
        return "same", "the pods are those that the HPA would have held"
    if change < 0 and not hurt:
        return "better", f"{pods}, and the objective held"
    if change < 0:
        missed = _percent(violating or 0.0, digits=1)
        return "worse", f"{pods}, and {missed} of requests violated the objective"
    if starved > 0.0:
        return "better", f"{pods}, which would have lacked CPU {_percent(starved)} of the time"
    return "worse", f"{pods}, whose pods would have had enough CPU all the time"


def _percent(share: float, *, digits: int = 0) -> str:
    """As the page writes it."""
    return f"{share * 100:.{digits}f} %"


def _span_s(recent: Sequence[Decision], index: int, now_s: float) -> float:
    """For how long a decision's replicas are counted."""
    end_s = recent[index + 1].at_s if index + 1 < len(recent) else now_s
    return min(max(end_s - recent[index].at_s, 0.0), _LONGEST_S)


def _violating(
    recent: Sequence[Decision], spans: Sequence[float], latency_s: float | None
) -> float | None:
    """Violating requests over all; None without traffic or objective."""
    if latency_s is None:
        return None
    total = violating = 0.0
    for one, span in zip(recent, spans, strict=True):
        requests = _number(one.raw[_RATE]) * span
        failed = min(_number(one.raw[_ERRORS]), 1.0)
        slow = _SLOW_SHARE if one.raw[_P95] > latency_s else 0.0
        total += requests
        violating += requests * (failed + slow * (1.0 - failed))
    return violating / total if total > 0.0 else None


def _number(value: float) -> float:
    return value if 0.0 <= value < math.inf else 0.0
