"""What Prometheus sees of the operator. Created once for a registry; labels are few and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from autoscaler.arms import Arm
from autoscaler.loop import Evaluation
from autoscaler.policy_spec import Mode, ScalingPolicy
from nimbusguard.client.breaker import BreakerState
from nimbusguard.client.validation import Outcome, Report

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OUTCOMES: Final = {Outcome.PASSED: 1.0, Outcome.FAILED: 0.0, Outcome.UNKNOWN: -1.0}


class OperatorMetrics:
    """The operator's metrics in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.desired = Gauge(
            "nimbusguard_desired_replicas",
            "Replicas that the policy asks for; an HPA or KEDA may read it.",
            ["namespace", "policy", "kind", "name"],
            registry=registry,
        )
        self.decisions = Counter(
            "nimbusguard_operator_decisions",
            "Decisions by the source that made them and the action.",
            ["source", "action"],
            registry=registry,
        )
        self.rules = Counter(
            "nimbusguard_operator_rules",
            "Recommendations that a rule of the guard or of the operator changed.",
            ["rule"],
            registry=registry,
        )
        self.flaws = Counter(
            "nimbusguard_operator_flawed_readings",
            "Readings whose metrics may not be believed.",
            ["flaw"],
            registry=registry,
        )
        self.scalings = Counter(
            "nimbusguard_operator_scalings",
            "Writes of a scale subresource: ok, conflict or failed.",
            ["result"],
            registry=registry,
        )
        self.policies = Gauge(
            "nimbusguard_operator_policies",
            "Policies by mode; `refused` are those with an invalid spec.",
            ["mode"],
            registry=registry,
        )
        self.is_leader = Gauge(
            "nimbusguard_operator_is_leader", "1 while this operator evaluates.", registry=registry
        )
        self.breaker = Gauge(
            "nimbusguard_breaker_state",
            "State of the circuit breaker before KServe: 1 for the current one.",
            ["arm", "state"],
            registry=registry,
        )
        self.validation = Gauge(
            "nimbusguard_model_validation",
            "Last validation of the served model: 1 passed, 0 failed, -1 could not be made.",
            ["arm", "check"],
            registry=registry,
        )
        self.lateness = Histogram(
            "nimbusguard_operator_lateness_seconds",
            "How long after its turn an evaluation began.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.decided = Histogram(
            "nimbusguard_operator_decision_delay_seconds",
            "From a workload's turn to its decision.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.duration = Histogram(
            "nimbusguard_operator_evaluation_seconds",
            "Duration of an evaluation of all workloads whose turn it was.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.experience = Counter(
            "nimbusguard_experience_rows",
            "Rows that were offered to the experience store: ok or failed.",
            ["result"],
            registry=registry,
        )

    def saw_evaluation(self, evaluation: Evaluation) -> None:
        """Count a decision and show what it asks for."""
        self.decisions.labels(evaluation.recommendation.source.value, evaluation.action.name).inc()
        for rule in evaluation.rules:
            self.rules.labels(rule).inc()
        for flaw in evaluation.flaws:
            self.flaws.labels(flaw.value).inc()
        if evaluation.policy.spec.mode is Mode.SHADOW:
            self.saw_removal(evaluation.policy)
        else:
            self.desired.labels(*_labels(evaluation.policy)).set(evaluation.target_replicas)

    def saw_removal(self, policy: ScalingPolicy) -> None:
        """Show no wish of a policy that is gone: it would be followed for ever."""
        with suppress(KeyError):  # it was never evaluated
            self.desired.remove(*_labels(policy))

    def saw_leadership(self, *, leads: bool) -> None:
        """Show who leads; only a leader has wishes, for the other's would be older."""
        self.is_leader.set(float(leads))
        if not leads:
            self.desired.clear()

    def saw_policies(self, modes: Mapping[Mode | None, int]) -> None:
        """Show how many policies there are."""
        for mode in (*Mode, None):
            name = "refused" if mode is None else mode.value
            self.policies.labels(name).set(modes.get(mode, 0))

    def saw_breaker(self, arm: Arm, state: BreakerState) -> None:
        """Show the breaker's state."""
        for one in BreakerState:
            self.breaker.labels(arm.value, one.value).set(float(one is state))

    def saw_validation(self, arm: Arm, report: Report) -> None:
        """Show the newest validation."""
        for name, check in report.checks.items():
            self.validation.labels(arm.value, name).set(_OUTCOMES[check.outcome])


def _labels(policy: ScalingPolicy) -> tuple[str, str, str, str]:
    target = policy.spec.target
    return policy.namespace, policy.name, target.kind, target.name
