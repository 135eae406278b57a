"""What an interval was worth, and the records that training reads: pure functions of two looks.

The reward is that of training: pod-time that was paid for, and violating requests at a price. Both
are estimated here from the eleven features; the parts are recorded too, so that training may apply
another price.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoscaler.arms import SHADOW
from autoscaler.loop import Evaluation
from autoscaler.policy_spec import Mode
from autoscaler.records import Experience, Outcome, Vector
from nimbusguard.client.fallback import Recommendation
from nimbusguard.client.observation import Observation, stack
from nimbusguard.contract.actions import allowed_actions
from nimbusguard.contract.features import INDEX
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.contract.normalization import NO_FEATURES, impute, normalize

VIOLATION_COST_S: Final = 20.0
"""Pod-seconds that one violating request weighs."""
_PER_MINUTE: Final = 1.0 / 60.0
# A p95 above the limit says that one request in twenty was slower, and no more than that.
_SLOW_SHARE: Final = 0.05
_RATE: Final = INDEX["request_rate"]
_P95: Final = INDEX["response_time_p95"]
_ERRORS: Final = INDEX["error_rate"]


class Look(NamedTuple):
    """An evaluation and when it was made."""

    evaluation: Evaluation
    decision_id: str
    unix_s: float
    arm: str = "stable"
    """Whose decision it was; `shadow` for one of the canary's that is not followed."""


def decision_id(uid: str, arm: str, unix_s: float) -> str:
    """A name that no other decision has, and that a repeated record has again."""
    return f"{uid}:{arm}:{unix_s:.3f}"


def shadow_of(evaluation: Evaluation, answer: Recommendation, unix_s: float) -> Look:
    """A look as it would have been, had an answer been followed that was only asked for.

    Args:
        evaluation: What was followed.
        answer: The canary's, about the same workload.
        unix_s: When.
    """
    policy = evaluation.policy
    imagined = replace(
        evaluation,
        policy=replace(policy, spec=replace(policy.spec, mode=Mode.SHADOW)),
        recommendation=answer,
        action=answer.action,
        target_replicas=answer.target_replicas,
        rules=(),
    )
    return Look(imagined, decision_id(policy.uid, SHADOW, unix_s), unix_s, SHADOW)


def experience_of(
    look: Look, *, applied: bool, absent_as_zero: NDArray[np.bool_] = NO_FEATURES
) -> Experience:
    """The record of a decision.

    Args:
        look: The evaluation.
        applied: Whether the workload was scaled to its target.
        absent_as_zero: Mask (F,) of features whose absence means 0.
    """
    evaluation, decision = look.evaluation, look.evaluation.recommendation.decision
    seen = evaluation.seen
    allowed = allowed_actions(*stack([seen])[1:])[0]
    return Experience(
        decision_id=look.decision_id,
        policy=evaluation.policy.key,
        target=str(evaluation.policy.spec.target),
        decided_at_s=look.unix_s,
        interval_s=evaluation.policy.spec.interval_s,
        mode=evaluation.policy.spec.mode.value,
        arm=look.arm,
        raw=seen.values,
        state=_state(seen, absent_as_zero),
        allowed=tuple(allowed.tolist()),
        q_values=None if decision is None else decision.q_values,
        action=evaluation.action,
        propensity=1.0,
        source=evaluation.recommendation.source.value,
        asked=evaluation.recommendation.asked.ended.value,
        answer_s=evaluation.recommendation.asked.seconds,
        model_version=None if decision is None else decision.model_version,
        fingerprint=FINGERPRINT,
        current_replicas=seen.current_replicas,
        target_replicas=evaluation.target_replicas,
        applied=applied,
        guard=evaluation.rules,
    )


def outcome_of(
    look: Look,
    seen: Observation,
    *,
    unix_s: float,
    absent_as_zero: NDArray[np.bool_] = NO_FEATURES,
) -> Outcome:
    """What came of a decision, as far as the next look tells.

    Args:
        look: The decision.
        seen: The next look at the same workload.
        unix_s: When that was.
        absent_as_zero: Mask (F,) of features whose absence means 0.
    """
    passed_s = max(unix_s - look.unix_s, 0.0)
    latency_s = look.evaluation.policy.spec.objective.latency_s
    violating = violating_share(seen, latency_s) * _number(seen.values[_RATE]) * passed_s
    pod_seconds = seen.current_replicas * passed_s
    return Outcome(
        decision_id=look.decision_id,
        observed_at_s=unix_s,
        next_raw=seen.values,
        next_state=_state(seen, absent_as_zero),
        next_replicas=seen.current_replicas,
        pod_seconds=pod_seconds,
        violating_requests=violating,
        reward=-_PER_MINUTE * (pod_seconds + VIOLATION_COST_S * violating),
    )


def violating_share(seen: Observation, latency_s: float) -> float:
    """Share of requests that failed or were too slow: the least that the features allow.

    Args:
        seen: A look at the workload.
        latency_s: A slower request violates the objective.
    """
    failed = min(_number(seen.values[_ERRORS]), 1.0)
    slow = _SLOW_SHARE if seen.values[_P95] > latency_s else 0.0
    return failed + slow * (1.0 - failed)


def _state(seen: Observation, absent_as_zero: NDArray[np.bool_]) -> Vector | None:
    """The state (F,), or None if a metric is absent that may not be."""
    imputed = impute(stack([seen]).raw, absent_as_zero)
    if imputed.refused.any():
        return None
    return tuple(normalize(imputed.values).state[0].tolist())


def _number(value: float) -> float:
    """A measured value; 0 for one that is absent, negative or infinite."""
    return value if 0.0 <= value < np.inf else 0.0
