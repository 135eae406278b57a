"""What `kubectl` shows of a policy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from autoscaler.evidence import NOTHING, Raw
from autoscaler.loop import (
    Case,
    Evaluation,
    LoopSettings,
    evaluate,
    observation_of,
    remember_nothing,
)
from autoscaler.policy_spec import Mode
from autoscaler.status import (
    REFRESH_S,
    Event,
    Problems,
    decided_status,
    event_body,
    events_of,
    refused_status,
    scaled_event,
    unreadable_status,
    with_times,
    worth_writing,
)
from nimbusguard.client.fallback import Recommendation, Source
from nimbusguard.contract.actions import ScaleAction
from tests.autoscaler.harness import metrics, policy, recommendation

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
UP = ScaleAction.SCALE_UP_1


def evaluation(
    advice: Recommendation | None = None,
    raw: Raw | None = None,
    conflict: str | None = None,
    **change: Any,
) -> Evaluation:
    web = policy(**change)
    seen = observation_of(web, raw or metrics(), 4)
    case = Case(web, remember_nothing(0.0), seen, advice or recommendation(UP), conflict)
    ((_, result),) = evaluate(LoopSettings(), [case], now_s=0.0)
    return result


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def status(result: Evaluation, problems: Problems | None = None) -> dict[str, Any]:
    return with_times(decided_status(result, problems or Problems(), NOON), {}, NOON)


def test_a_decision_is_shown_whole() -> None:
    """Replicas, action, source, version, and every condition good."""
    shown = status(evaluation())

    assert {key: value for key, value in shown.items() if key != "conditions"} == {
        "observedGeneration": 1,
        "currentReplicas": 4,
        "targetReplicas": 5,
        "action": "SCALE_UP_1",
        "source": "kserve",
        "modelVersion": "2",
        "rules": [],
        "lastDecisionTime": "2026-01-01T12:00:00Z",
    }
    assert conditions(shown) == {
        "Accepted": ("True", "Valid"),
        "TargetFound": ("True", "Found"),
        "MetricsTrusted": ("True", "Plausible"),
        "Served": ("True", "Kserve"),
        "Acting": ("True", "Scaling"),
        "Ready": ("True", "Plausible"),
    }
    assert all(one["lastTransitionTime"] == "2026-01-01T12:00:00Z" for one in shown["conditions"])


@pytest.mark.parametrize(
    ("result", "kind", "expected"),
    [
        (evaluation(raw=NOTHING), "MetricsTrusted", "Missing"),
        (evaluation(raw=NOTHING), "Ready", "Missing"),
        (evaluation(raw=metrics(node_utilization=0.0)), "MetricsTrusted", "Implausible"),
        (evaluation(recommendation(UP, source=Source.LOCAL_MODEL)), "Served", "LocalModel"),
        (evaluation(recommendation(UP, source=Source.HPA_RULE)), "Served", "HpaRule"),
        (evaluation(recommendation(UP, source=Source.HOLD)), "Served", "Hold"),
        (evaluation(mode=Mode.SHADOW), "Acting", "Shadow"),
        (evaluation(mode=Mode.ADVISE), "Acting", "Advise"),
        (evaluation(paused=True), "Acting", "Paused"),
        (evaluation(conflict="HPA scales too"), "Acting", "OtherWriter"),
        (evaluation(conflict="HPA scales too"), "Ready", "OtherWriter"),
    ],
)
def test_whatever_is_not_as_it_should_be_is_a_condition(
    result: Evaluation, kind: str, expected: str
) -> None:
    """False, with the reason."""
    assert conditions(status(result))[kind] == ("False", expected)


@pytest.mark.parametrize("change", [{"mode": Mode.SHADOW}, {"mode": Mode.ADVISE}, {"paused": True}])
def test_what_somebody_chose_is_ready(change: dict[str, Any]) -> None:
    """Nothing is done, and that is as it should be."""
    assert conditions(status(evaluation(**change)))["Ready"] == ("True", "Plausible")


def test_a_failed_write_is_a_condition_with_its_error() -> None:
    """Somebody has to grant a right, or wait."""
    shown = status(evaluation(), Problems(scaling="PATCH: 403 forbidden"))

    acting = next(one for one in shown["conditions"] if one["type"] == "Acting")
    assert (acting["status"], acting["reason"]) == ("False", "ScaleFailed")
    assert acting["message"] == "PATCH: 403 forbidden"


def test_why_metrics_are_missing_is_told() -> None:
    """In Prometheus' words, where it gave some."""
    shown = status(evaluation(raw=NOTHING), Problems(metrics="Prometheus refused"))

    trusted = next(one for one in shown["conditions"] if one["type"] == "MetricsTrusted")
    assert trusted["message"] == (
        "metrics are missing; replicas are not removed. Prometheus refused"
    )


def test_a_condition_keeps_its_time_until_its_status_turns() -> None:
    """The time says since when, not when it was last looked at."""
    before = status(evaluation())

    same = with_times(decided_status(evaluation(), Problems(), LATER), before, LATER)
    turned = with_times(decided_status(evaluation(raw=NOTHING), Problems(), LATER), before, LATER)

    times = {one["type"]: one["lastTransitionTime"] for one in turned["conditions"]}
    assert {one["lastTransitionTime"] for one in same["conditions"]} == {"2026-01-01T12:00:00Z"}
    assert times["MetricsTrusted"] == "2026-01-01T13:00:00Z"
    assert times["Accepted"] == "2026-01-01T12:00:00Z"


def test_a_status_is_written_when_a_reader_would_act_on_it() -> None:
    """A new time alone waits for the minute."""
    before = status(evaluation())
    later = with_times(decided_status(evaluation(), Problems(), LATER), before, LATER)

    assert not worth_writing(later, before, age_s=REFRESH_S - 1.0)
    assert worth_writing(later, before, age_s=REFRESH_S)
    assert worth_writing(status(evaluation(raw=NOTHING)), before, age_s=1.0)
    assert worth_writing({**later, "targetReplicas": 9}, before, age_s=1.0)
    assert not worth_writing({**later, "action": "NO_ACTION"}, before, age_s=1.0)
    assert worth_writing(later, {}, age_s=float("inf"))


def test_a_condition_that_turns_is_an_event() -> None:
    """A warning when it turns bad, unless somebody wanted it so; and news when it turns good."""
    good, blind = status(evaluation()), status(evaluation(raw=NOTHING))

    assert events_of(good, {}) == []
    assert [(one.is_warning, one.reason) for one in events_of(blind, good)] == [(True, "Missing")]
    assert [(one.is_warning, one.reason) for one in events_of(good, blind)] == [
        (False, "Plausible")
    ]
    paused = status(evaluation(paused=True))
    assert [(one.is_warning, one.reason) for one in events_of(paused, good)] == [(False, "Paused")]


def test_a_scaling_is_told_in_one_sentence() -> None:
    """From, to, why."""
    ruled = recommendation(UP, source=Source.HPA_RULE, decision=None)

    assert scaled_event(evaluation()).message == (
        "Deployment/web from 4 to 5 replicas: SCALE_UP_1 by kserve version 2"
    )
    assert scaled_event(evaluation(ruled, max_replicas=4)).message == (
        "Deployment/web from 4 to 4 replicas: SCALE_UP_1 by hpa_rule; rules: BOUNDS"
    )


def test_an_event_is_about_its_policy() -> None:
    """So that `kubectl describe` finds it; a long message is cut as the API server demands."""
    event = Event(is_warning=True, reason="Missing", message="x" * 3_000)

    body = event_body(event, namespace="shop", name="web", uid="u1", now=NOON)

    assert body["involvedObject"] == {
        "apiVersion": "nimbusguard.io/v1alpha1",
        "kind": "ScalingPolicy",
        "namespace": "shop",
        "name": "web",
        "uid": "u1",
    }
    assert (body["type"], body["reason"], len(body["message"])) == ("Warning", "Missing", 1024)
    assert body["firstTimestamp"] == "2026-01-01T12:00:00Z"


def test_a_refused_spec_and_an_unreadable_target_are_shown() -> None:
    """What could be checked is true, the rest is said."""
    refused = refused_status("spec.mode: expected", 3)
    unreadable = unreadable_status("NotFound", "no such", 4)

    assert conditions(refused) == {
        "Accepted": ("False", "InvalidSpec"),
        "Ready": ("False", "InvalidSpec"),
    }
    assert conditions(unreadable) == {
        "Accepted": ("True", "Valid"),
        "TargetFound": ("False", "NotFound"),
        "Ready": ("False", "NotFound"),
    }
    assert (refused["observedGeneration"], unreadable["observedGeneration"]) == (3, 4)
