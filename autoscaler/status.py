"""What `kubectl` shows of a policy: status, conditions and events, as pure functions.

A status is written when something in it changed that a reader would act on, and at least once a
minute; a thousand policies must not become a thousand writes an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from autoscaler.evidence import Flaw
from autoscaler.loop import Evaluation
from autoscaler.policy_spec import GROUP, KIND, VERSION, Mode
from nimbusguard.client.fallback import Source

REFRESH_S: Final = 60.0
"""Seconds after which a status is written although nothing changed: its time says "still here"."""


_ESSENTIAL: Final = (
    "observedGeneration",
    "currentReplicas",
    "targetReplicas",
    "source",
    "modelVersion",
)
_CHOSEN: Final = frozenset({"Shadow", "Advise", "Paused"})
"""Reasons that somebody wanted; no cause for a warning."""


class Condition(NamedTuple):
    """One condition before it has a time."""

    type: str
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str


class Event(NamedTuple):
    """Something that happened to a policy."""

    is_warning: bool
    reason: str
    message: str


def refused_status(problem: str, generation: int) -> dict[str, Any]:
    """Status of an object whose spec is refused."""
    return {
        "observedGeneration": generation,
        "conditions": [
            _plain(Condition("Accepted", "False", "InvalidSpec", problem)),
            _plain(Condition("Ready", "False", "InvalidSpec", problem)),
        ],
    }


def unreadable_status(reason: str, problem: str, generation: int) -> dict[str, Any]:
    """Status of a policy whose target's replicas could not be read."""
    return {
        "observedGeneration": generation,
        "conditions": [
            _plain(Condition("Accepted", "True", "Valid", "the spec is valid")),
            _plain(Condition("TargetFound", "False", reason, problem)),
            _plain(Condition("Ready", "False", reason, problem)),
        ],
    }


class Problems(NamedTuple):
    """What went wrong around an evaluation; None where nothing did."""

    metrics: str | None = None
    """Why Prometheus gave no metrics."""
    scaling: str | None = None
    """Why the target could not be scaled."""


def decided_status(evaluation: Evaluation, problems: Problems, now: datetime) -> dict[str, Any]:
    """Status after an evaluation.

    Args:
        evaluation: What came of it.
        problems: What went wrong around it.
        now: The time on the wall.
    """
    recommendation = evaluation.recommendation
    decision = recommendation.decision
    return {
        "observedGeneration": evaluation.policy.generation,
        "currentReplicas": evaluation.seen.current_replicas,
        "targetReplicas": evaluation.target_replicas,
        "action": evaluation.action.name,
        "source": recommendation.source.value,
        "modelVersion": None if decision is None else decision.model_version,
        "rules": list(evaluation.rules),
        "lastDecisionTime": _moment(now),
        "conditions": [_plain(condition) for condition in _conditions(evaluation, problems)],
    }


def with_times(
    status: Mapping[str, Any], before: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Give each condition the time at which its status last changed.

    Args:
        status: The new status.
        before: The one before it.
        now: The time on the wall.
    """
    known = {old["type"]: old for old in before.get("conditions") or ()}
    conditions = []
    for condition in status["conditions"]:
        old = known.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        since = old.get("lastTransitionTime") if same else None
        conditions.append(
            {
                **condition,
                "observedGeneration": status["observedGeneration"],
                "lastTransitionTime": since or _moment(now),
            }
        )
    return {**status, "conditions": conditions}


def worth_writing(status: Mapping[str, Any], before: Mapping[str, Any], *, age_s: float) -> bool:
    """Whether a reader should see the new status now.

    Args:
        status: The new one.
        before: The one that was written last.
        age_s: How long ago that was.
    """
    return age_s >= REFRESH_S or _essence(status) != _essence(before)


def events_of(status: Mapping[str, Any], before: Mapping[str, Any]) -> list[Event]:
    """What happened between two statuses: conditions that turned."""
    known = {old["type"]: old["status"] for old in before.get("conditions") or ()}
    return [
        Event(
            condition["status"] != "True" and condition["reason"] not in _CHOSEN,
            condition["reason"],
            condition["message"],
        )
        for condition in status["conditions"]
        if condition["type"] != "Ready"
        and known.get(condition["type"], "True") != condition["status"]
    ]


def scaled_event(evaluation: Evaluation) -> Event:
    """The event of a workload that was scaled."""
    decision = evaluation.recommendation.decision
    version = f" version {decision.model_version}" if decision else ""
    rules = f"; rules: {', '.join(evaluation.rules)}" if evaluation.rules else ""
    message = (
        f"{evaluation.policy.spec.target} from {evaluation.seen.current_replicas} to "
        f"{evaluation.target_replicas} replicas: {evaluation.action.name} by "
        f"{evaluation.recommendation.source.value}{version}{rules}"
    )
    return Event(is_warning=False, reason="Rescaled", message=message)


def event_body(
    event: Event, *, namespace: str, name: str, uid: str, now: datetime
) -> dict[str, Any]:
    """The object that the API server takes."""
    moment = _moment(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{name}.", "namespace": namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "namespace": namespace,
            "name": name,
            "uid": uid,
        },
        "type": "Warning" if event.is_warning else "Normal",
        "reason": event.reason,
        "message": event.message[:1024],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": "nimbusguard-operator"},
        "reportingComponent": "nimbusguard-operator",
        "reportingInstance": "nimbusguard-operator",
    }


def _conditions(evaluation: Evaluation, problems: Problems) -> list[Condition]:
    trusted = _trusted(evaluation, problems.metrics)
    acting = _acting(evaluation, problems.scaling)
    hindered = acting.status != "True" and acting.reason not in _CHOSEN
    # Whoever asked for action and does not get it must see that first.
    told = acting if hindered else trusted
    return [
        Condition("Accepted", "True", "Valid", "the spec is valid"),
        Condition("TargetFound", "True", "Found", f"{evaluation.policy.spec.target} can be scaled"),
        trusted,
        _served(evaluation),
        acting,
        Condition("Ready", told.status, told.reason, told.message),
    ]


def _trusted(evaluation: Evaluation, problem: str | None) -> Condition:
    if not evaluation.flaws:
        return Condition("MetricsTrusted", "True", "Plausible", "every metric may be believed")
    first = next(flaw for flaw in Flaw if flaw in evaluation.flaws)
    told = problem or evaluation.recommendation.refusals.get(Source.KSERVE, "")
    names = ", ".join(sorted(evaluation.flaws))
    message = f"metrics are {names}; replicas are not removed. {told}".strip()
    return Condition("MetricsTrusted", "False", first.value.capitalize(), message)


def _served(evaluation: Evaluation) -> Condition:
    recommendation = evaluation.recommendation
    if recommendation.source is Source.KSERVE:
        return Condition("Served", "True", "Kserve", "KServe decides")
    reasons = {
        Source.LOCAL_MODEL: "LocalModel",
        Source.HPA_RULE: "HpaRule",
        Source.HOLD: "Hold",
    }
    told = recommendation.refusals.get(Source.KSERVE, "")
    return Condition("Served", "False", reasons[recommendation.source], told)


def _acting(evaluation: Evaluation, problem: str | None) -> Condition:
    policy = evaluation.policy
    if policy.paused:
        return Condition("Acting", "False", "Paused", "the pause annotation is set")
    if evaluation.conflict is not None:
        return Condition("Acting", "False", "OtherWriter", evaluation.conflict)
    if policy.spec.mode is not Mode.ACT:
        reason = policy.spec.mode.value.capitalize()
        return Condition("Acting", "False", reason, f"mode is {policy.spec.mode.value}")
    if problem is not None:
        return Condition("Acting", "False", "ScaleFailed", problem)
    return Condition("Acting", "True", "Scaling", "decisions are carried out")


def _plain(condition: Condition) -> dict[str, Any]:
    return {**condition._asdict(), "message": condition.message[:1024]}


def _essence(status: Mapping[str, Any]) -> object:
    """What of a status a reader would act on; the action of every interval is not among it."""
    essence: list[object] = [status.get(name) for name in _ESSENTIAL]
    conditions = status.get("conditions") or ()
    essence += [(one["type"], one["status"], one["reason"]) for one in conditions]
    return essence


def _moment(now: datetime) -> str:
    return now.astimezone(UTC).isoformat("T", "seconds").replace("+00:00", "Z")
