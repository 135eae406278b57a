"""Records for the autoscaler's tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from autoscaler.policy_spec import Mode, PolicySpec, ScalingPolicy, Target
from autoscaler.records import Experience, Outcome
from nimbusguard.client.asked import Asked, Ended
from nimbusguard.client.decision import Decision
from nimbusguard.client.fallback import Recommendation, Source
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.features import NAMES
from nimbusguard.contract.fingerprint import FINGERPRINT
from tests.client.harness import BUSY as CLIENT_BUSY


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
        "asked": "answered",
        "answer_s": 0.002,
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


BUSY = CLIENT_BUSY | {"cpu_utilization": 0.6}
"""A workload that is neither idle nor short of replicas."""


def metrics(**change: float) -> tuple[float, ...]:
    """A busy workload's raw features, with some of them replaced."""
    values = BUSY | change
    return tuple(float(values[name]) for name in NAMES)


def policy(name: str = "web", **change: Any) -> ScalingPolicy:
    fields: dict[str, Any] = {"target": Target(name=name), "mode": Mode.ACT, "max_replicas": 50}
    paused = change.pop("paused", False)
    return ScalingPolicy(
        namespace="shop",
        name=name,
        uid=f"uid-{name}",
        generation=1,
        created="2026-01-01T00:00:00Z",
        paused=paused,
        spec=PolicySpec(**(fields | change)),
    )


def decision(action: ScaleAction, current: int = 4, **change: Any) -> Decision:
    """What a network that prefers an action says."""
    fields: dict[str, Any] = {
        "action": action,
        "current_replicas": current,
        "q_values": tuple(1.0 if one is action else 0.0 for one in ScaleAction),
        "q_margin": 1.0,
        "allowed_actions": tuple(ScaleAction),
        "clipped_features": (),
        "imputed_features": (),
        "model_name": "nimbusguard-dqn",
        "model_version": "2",
        "fingerprint": FINGERPRINT,
    }
    return Decision(**(fields | change))


def recommendation(action: ScaleAction, current: int = 4, **change: Any) -> Recommendation:
    fields: dict[str, Any] = {
        "source": Source.KSERVE,
        "action": action,
        "current_replicas": current,
        "decision": decision(action, current),
        "refusals": {},
        "asked": Asked(Ended.ANSWERED, 0.002),
    }
    return Recommendation(**(fields | change))


class Clock:
    """Seconds that pass only on demand."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
