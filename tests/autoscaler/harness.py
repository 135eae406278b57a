"""Records for the autoscaler's tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from autoscaler.records import Experience, Outcome
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.fingerprint import FINGERPRINT


def experience(number: int = 1, **change: Any) -> Experience:
    fields: dict[str, Any] = {
        "decision_id": f"d{number}",
        "policy": "shop/web",
        "target": "Deployment/web",
        "decided_at_s": 1_000.0 + number,
        "interval_s": 15.0,
        "mode": "act",
        "arm": "stable",
        "raw": (0.5,) * 11,
        "state": (0.25,) * 11,
        "allowed": (True,) * 5,
        "q_values": (0.0, 0.5, 1.0, 0.25, 0.125),
        "action": ScaleAction.NO_ACTION,
        "propensity": 1.0,
        "source": "kserve",
        "model_version": "2",
        "fingerprint": FINGERPRINT,
        "current_replicas": 4,
        "target_replicas": 4,
        "applied": True,
        "guard": (),
    }
    return Experience(**(fields | change))


def outcome(number: int = 1, **change: Any) -> Outcome:
    fields: dict[str, Any] = {
        "decision_id": f"d{number}",
        "observed_at_s": 1_015.0 + number,
        "next_raw": (0.75,) * 11,
        "next_state": (0.5,) * 11,
        "next_replicas": 4,
        "pod_seconds": 60.0,
        "violating_requests": 2.0,
        "reward": -62.0,
    }
    return Outcome(**(fields | change))


def vectors(length: int, width: int = 64) -> st.SearchStrategy[tuple[float, ...]]:
    values = st.floats(width=width, allow_nan=False)  # type: ignore[arg-type]
    return st.lists(values, min_size=length, max_size=length).map(tuple)


EXPERIENCES = st.builds(
    experience,
    st.integers(0, 10**6),
    raw=vectors(11),
    state=st.none() | vectors(11, 32),
    allowed=st.lists(st.booleans(), min_size=5, max_size=5).map(tuple),
    q_values=st.none() | vectors(5, 32),
    action=st.sampled_from(ScaleAction),
    propensity=st.floats(0.0, 1.0, exclude_min=True),
    model_version=st.none() | st.text(),
    applied=st.booleans(),
    guard=st.lists(st.text(max_size=9)).map(tuple),
)
OUTCOMES = st.builds(outcome, next_raw=vectors(11), next_state=st.none() | vectors(11, 32))
