"""One decision as the console shows it, whoever made it: a value, and its JSON form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from nimbusguard.console.comparison import Bounds, hpa_wish
from nimbusguard.contract.actions import ACTION_NAMES, ScaleAction
from nimbusguard.contract.features import INDEX, NAMES

RATE: Final = INDEX["request_rate"]
P95: Final = INDEX["response_time_p95"]
_CPU: Final = INDEX["cpu_utilization"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was known of a workload, what was chosen, and what was done."""

    decision_id: str
    workload: str
    """`namespace/name` of its policy, or what a caller of the transformer named."""
    target: str
    """What is scaled, such as `Deployment/web`."""
    at_s: float
    """Unix time."""
    interval_s: float | None
    """Seconds until the next one; None where nobody said."""
    mode: str
    """`shadow`, `advise`, `act`, or `asked` for an answer to a single question."""
    arm: str
    source: str
    model_version: str | None
    raw: tuple[float, ...]
    """(F,); NaN where absent."""
    allowed: tuple[bool, ...]
    """(A,)."""
    q_values: tuple[float, ...] | None
    """(A,); None if a rule decided."""
    action: ScaleAction
    current_replicas: int
    target_replicas: int
    applied: bool
    guard: tuple[str, ...]
    """Rules that changed the recommendation."""


def finite(value: float) -> float | None:
    """A number that JSON can carry; None for one that is absent."""
    return float(value) if math.isfinite(value) else None


def summary_of(decision: Decision, bounds: Bounds) -> dict[str, Any]:
    """A decision as a row of the list of workloads."""
    return {
        "id": decision.decision_id,
        "workload": decision.workload,
        "target": decision.target,
        "at_s": decision.at_s,
        "mode": decision.mode,
        "arm": decision.arm,
        "source": decision.source,
        "model_version": decision.model_version,
        "action": decision.action.name,
        "current_replicas": decision.current_replicas,
        "target_replicas": decision.target_replicas,
        "applied": decision.applied,
        "guard": list(decision.guard),
        "load": finite(decision.raw[RATE]),
        "p95_s": finite(decision.raw[P95]),
        "cpu": finite(decision.raw[_CPU]),
        "hpa_replicas": hpa_wish(decision.raw, decision.current_replicas, bounds),
    }


def document_of(decision: Decision, bounds: Bounds) -> dict[str, Any]:
    """All of a decision."""
    return {
        **summary_of(decision, bounds),
        "features": {name: finite(value) for name, value in zip(NAMES, decision.raw, strict=True)},
        "q_values": None if decision.q_values is None else list(decision.q_values),
        "allowed": [name for name, ok in zip(ACTION_NAMES, decision.allowed, strict=True) if ok],
    }


def instance_of(decision: Decision) -> dict[str, Any]:
    """The decision's question again, as the transformer takes it.

    Bounds are told by the mask: what was not allowed then lies beyond them.
    """
    current = decision.current_replicas
    reach = [current + action.change for action in ScaleAction if decision.allowed[action]]
    return {
        **{name: finite(value) for name, value in zip(NAMES, decision.raw, strict=True)},
        "current_replicas": current,
        "min_replicas": max(min(reach), 0),
        "max_replicas": max(reach),
    }
