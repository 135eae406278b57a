"""The shipped rules in a real Prometheus over a real service under real load, and what follows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import httpx
import pytest

from nimbusguard.contract.features import NAMES
from nimbusguard.contract.prometheus import read_instant_answer
from tests.live.phases import HIGH_RATE, NEIGHBOUR, WORKLOAD, Phase, Phases
from tests.live.services import Services
from tests.live.stack import NAMESPACE, LiveStack

pytestmark = pytest.mark.service

FOLLOWING = (
    "cpu_utilization",
    "memory_utilization",
    "network_io_rate",
    "request_rate",
    "response_time_p95",
    "error_rate",
    "queue_depth",
)
"""The others show how many pods there are, and a machine that does other work too."""
WAYS = ("by_answer", "by_reference", "by_command")


def told(phase: Phase) -> str:
    """The features whole, where an assertion would shorten them."""
    return " ".join(f"{name}={phase.features[name]:g}" for name in NAMES)


def test_all_eleven_features_arrive(phases: Phases) -> None:
    """Each is a finite number at every load, within what it can be."""
    for phase in phases:
        assert all(math.isfinite(phase.features[name]) for name in NAMES), phase.features
        assert phase.features["pod_count"] == 2
        assert phase.features["cpu_throttling"] >= 0
        assert 0 < phase.features["memory_pressure"] < 1
        assert 0 <= phase.features["node_utilization"] <= 1


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_feature_follows_the_load(phases: Phases, name: str) -> None:
    """Up when the load rises, down when it falls."""
    low, high, low_again = (phase.features[name] for phase in phases)

    assert low < high > low_again


def test_the_request_rate_is_the_one_that_was_driven(phases: Phases) -> None:
    """Poisson arrivals of 30/s, seen over 5 s: within five standard deviations."""
    assert phases.high.features["request_rate"] < HIGH_RATE + 5 * math.sqrt(HIGH_RATE / 5)


def test_a_neighbour_with_a_like_name_stays_idle(phases: Phases) -> None:
    """`web-admin` is not `web`: no request, hence no latency, while the other is overloaded."""
    neighbour = phases.high.neighbour

    assert neighbour["pod_count"] == 1
    assert neighbour["request_rate"] == 0
    assert math.isnan(neighbour["response_time_p95"])
    assert math.isnan(neighbour["error_rate"])
    assert neighbour["cpu_utilization"] < 0.5 < phases.high.features["cpu_utilization"]


@pytest.mark.parametrize("way", WAYS)
def test_a_decision_rests_on_all_eleven_features(phases: Phases, way: str) -> None:
    """Nothing was imputed, whichever way the metrics came in."""
    for phase in phases:
        decision: Mapping[str, object] = getattr(phase, way)
        assert decision["imputed_features"] == []
        assert decision["current_replicas"] == 2


@pytest.mark.parametrize("way", WAYS)
def test_the_decision_follows_the_load(phases: Phases, way: str) -> None:
    """More replicas under overload, fewer when it is over."""
    low, high, low_again = (getattr(phase, way)["replica_change"] for phase in phases)

    assert low < 0, told(phases.low)
    assert high > 0, told(phases.high)
    assert low_again < 0, told(phases.low_again)


def test_an_answer_means_the_same_as_its_numbers(phases: Phases, services: Services) -> None:
    """Instance kind 3 is kind 2 after parsing: the same decision, the same Q-values."""
    for phase in phases:
        row = read_instant_answer(phase.answer, "here")

        (by_numbers,) = services.predict([row.values.tolist()])

        assert row.workload == (NAMESPACE, WORKLOAD)
        # In float32 a batch of one row and one of two differ by up to 1.3e-5.
        assert by_numbers["q_values"] == pytest.approx(phase.by_answer["q_values"], abs=1e-4)
        assert by_numbers["action"] == phase.by_answer["action"]


def test_an_idle_workload_is_decided_on_with_what_cannot_be_measured_as_zero(
    phases: Phases, services: Services
) -> None:
    """No request, so no latency and no error ratio: the decision says so."""
    reference = {"workload": {"namespace": NAMESPACE, "deployment": NEIGHBOUR}}

    (decision,) = services.predict([reference])

    assert decision["imputed_features"] == ["response_time_p95", "error_rate"]
    assert decision["replica_change"] == 0, "one replica is the least that is allowed"


def test_pods_that_start_and_end_are_counted(stack: LiveStack) -> None:
    """Within a scrape and an evaluation, in both directions."""
    stack.scale(WORKLOAD, 3)
    stack.await_row(WORKLOAD, "three pods", lambda row: row["pod_count"] == 3)

    stack.scale(WORKLOAD, 2)
    stack.await_row(WORKLOAD, "two pods again", lambda row: row["pod_count"] == 2)


def test_a_workload_that_prometheus_does_not_know_is_a_bad_request(services: Services) -> None:
    """A wrong name, with the place where it stands."""
    reference = {"workload": {"namespace": NAMESPACE, "deployment": "wbe"}}

    response = services.post([reference])

    assert response.status_code == httpx.codes.BAD_REQUEST
    assert response.json()["error"].startswith("instance 0: workload shop/wbe: expected series")


def test_a_prometheus_that_stands_still_is_no_decision(
    stack: LiveStack, services: Services
) -> None:
    """503 with `Retry-After` within the deadline; and decisions again when it runs on."""
    reference = {"workload": {"namespace": NAMESPACE, "deployment": NEIGHBOUR}}

    with stack.prometheus.stopped():
        response = services.post([reference])

    assert response.status_code == httpx.codes.SERVICE_UNAVAILABLE, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert "Prometheus at http://127.0.0.1" in response.json()["error"]
    stack.await_row(NEIGHBOUR, "an answer", lambda row: row["pod_count"] == 1)
