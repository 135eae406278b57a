"""What is recorded of a decision, and what an interval was worth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autoscaler.evidence import NOTHING
from autoscaler.judgement import (
    VIOLATION_COST_S,
    Look,
    decision_id,
    experience_of,
    outcome_of,
    violating_share,
)
from autoscaler.loop import Case, LoopSettings, evaluate, observation_of, remember_nothing
from nimbusguard.client.fallback import Recommendation, Source
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.contract.normalization import normalize
from tests.autoscaler.harness import metrics, policy, recommendation
from training.simulator import env

UP = ScaleAction.SCALE_UP_1


def look(
    raw: tuple[float, ...] | None = None, advice: Recommendation | None = None, current: int = 4
) -> Look:
    web = policy(max_replicas=5)
    seen = observation_of(web, raw or metrics(), current)
    case = Case(web, remember_nothing(0.0), seen, advice or recommendation(UP), None)
    ((_, evaluation),) = evaluate(LoopSettings(), [case], now_s=0.0)
    return Look(evaluation, decision_id("uid-web", "stable", 1_000.0), 1_000.0)


def test_everything_about_a_decision_is_recorded() -> None:
    """Raw and normalized, mask, Q-values, source, version, rules."""
    record = experience_of(look(), applied=True)

    assert record.decision_id == "uid-web:stable:1000.000"
    assert (record.policy, record.target, record.mode) == ("shop/web", "Deployment/web", "act")
    assert record.raw == metrics()
    assert record.state == tuple(normalize(np.array([metrics()])).state[0].tolist())
    assert record.allowed == (True, True, True, True, False)
    assert record.q_values == (0.0, 0.0, 0.0, 1.0, 0.0)
    assert (record.action, record.propensity, record.source) == (UP, 1.0, "kserve")
    assert (record.model_version, record.fingerprint) == ("2", FINGERPRINT)
    assert (record.current_replicas, record.target_replicas, record.applied) == (4, 5, True)


def test_a_decision_without_metrics_or_network_is_recorded_too() -> None:
    """What is not known is None, never invented."""
    held = recommendation(ScaleAction.NO_ACTION, source=Source.HOLD, decision=None)

    record = experience_of(look(NOTHING, held), applied=False)

    assert (record.state, record.q_values, record.model_version) == (None, None, None)
    assert all(math.isnan(value) for value in record.raw)
    assert record.source == "hold"


def test_an_interval_costs_pod_time_and_violations() -> None:
    """Five replicas for 15 s; 2 % of 200 requests/s failed."""
    later = observation_of(policy(), metrics(error_rate=0.02), 5)

    outcome = outcome_of(look(), later, unix_s=1_015.0)

    assert outcome.decision_id == "uid-web:stable:1000.000"
    assert (outcome.next_replicas, outcome.next_raw) == (5, later.values)
    assert outcome.pod_seconds == 75.0
    assert outcome.violating_requests == pytest.approx(0.02 * 200 * 15)
    assert outcome.reward == pytest.approx(-(75.0 + 20.0 * 60.0) / 60.0)


def test_the_price_of_a_violation_is_that_of_training() -> None:
    """One objective for simulation and operation."""
    assert VIOLATION_COST_S == env._VIOLATION_COST


@pytest.mark.parametrize(
    ("p95", "errors", "share"),
    [
        (0.2, 0.0, 0.0),
        (0.3, 0.0, 0.05),
        (0.3, 0.1, 0.1 + 0.05 * 0.9),
        (math.nan, math.nan, 0.0),
        (0.2, 7.0, 1.0),
        (0.2, -1.0, 0.0),
        (math.inf, 0.0, 0.05),
    ],
)
def test_violations_are_the_least_that_the_metrics_allow(
    p95: float, errors: float, share: float
) -> None:
    """A p95 above the limit proves that one in twenty was slower, and no more."""
    seen = observation_of(policy(), metrics(response_time_p95=p95, error_rate=errors), 4)

    assert violating_share(seen, 0.25) == pytest.approx(share)


def test_a_clock_that_was_set_back_makes_no_negative_cost() -> None:
    """The interval then counts as nothing."""
    outcome = outcome_of(look(), look().evaluation.seen, unix_s=10.0)

    assert (outcome.pod_seconds, outcome.violating_requests) == (0.0, 0.0)
    assert outcome.reward == 0.0
