"""What Prometheus sees of the operator. Created once for a registry; labels are few and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from autoscaler.arms import Arm
from autoscaler.evidence import Flaw
from autoscaler.loop import Evaluation
from autoscaler.policy_spec import Mode, ScalingPolicy
from autoscaler.rails import Rail
from autoscaler.workload_metrics import WorkloadMetrics
from nimbusguard import __version__
from nimbusguard.client.breaker import BreakerState
from nimbusguard.client.validation import Outcome, Report
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.policy.guard import Rule

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STAGE_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *_SECONDS)
"""To apply nothing takes some microseconds, to decide with a network a few milliseconds."""
STAGES: Final = ("look", "decide", "apply", "record")
_OUTCOMES: Final = {Outcome.PASSED: 1.0, Outcome.FAILED: 0.0, Outcome.UNKNOWN: -1.0}


class OperatorMetrics:
    """The operator's metrics in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        self.desired = Gauge(
            "nimbusguard_desired_replicas",
            "Replicas that the policy asks for; an HPA or KEDA may read it.",
            ["namespace", "policy", "kind", "name"],
            registry=registry,
        )
        self.decisions = Counter(
            "nimbusguard_operator_decisions",
            "Decisions by the source that made them, the action, the version and the arm.",
            ["source", "action", "model_version", "arm"],
            registry=registry,
        )
        self.workloads = WorkloadMetrics()
        registry.register(self.workloads)
        self.arms = Gauge(
            "nimbusguard_operator_arm_policies",
            "Policies whose workloads an arm decides for.",
            ["arm"],
            registry=registry,
        )
        self.comparisons = Counter(
            "nimbusguard_canary_comparisons",
            "Decisions of stable that the canary was asked about too: agree or disagree.",
            ["verdict"],
            registry=registry,
        )
        build = Gauge(
            "nimbusguard_build_info",
            "1, with the version of the program.",
            ["component", "version"],
            registry=registry,
        )
        build.labels("operator", __version__).set(1.0)
        table = Gauge(
            "nimbusguard_operator_contract_info",
            "1, with the fingerprint of the feature table that this operator speaks.",
            ["fingerprint"],
            registry=registry,
        )
        table.labels(FINGERPRINT).set(1.0)
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
        self.stages = Histogram(
            "nimbusguard_operator_stage_duration_seconds",
            "Stages of an evaluation.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        self.experience = Counter(
            "nimbusguard_experience_rows",
            "Rows that were offered to the experience store: ok or failed.",
            ["result"],
            registry=registry,
        )
        self._announce()

    def _announce(self) -> None:
        """Show counters from 0 on: a rate does not see a series' first value."""
        for rule in (*(one.value for one in Rail), *(one.name for one in Rule if one.name)):
            self.rules.labels(rule)
        for flaw in Flaw:
            self.flaws.labels(flaw.value)
        for result in ("ok", "conflict", "failed"):
            self.scalings.labels(result)
        for result in ("ok", "failed"):
            self.experience.labels(result)
        for verdict in ("agree", "disagree"):
            self.comparisons.labels(verdict)
        for stage in STAGES:
            self.stages.labels(stage)

    def saw_evaluation(self, evaluation: Evaluation, arm: Arm = Arm.STABLE) -> None:
        """Count a decision and show what it asks for."""
        decision = evaluation.recommendation.decision
        version = "" if decision is None else decision.model_version
        source = evaluation.recommendation.source.value
        self.decisions.labels(source, evaluation.action.name, version, arm.value).inc()
        self.workloads.saw(evaluation)
        for rule in evaluation.rules:
            self.rules.labels(rule).inc()
        for flaw in evaluation.flaws:
            self.flaws.labels(flaw.value).inc()
        if evaluation.policy.spec.mode is Mode.SHADOW:
            self._withdraw(evaluation.policy)
        else:
            self.desired.labels(*_labels(evaluation.policy)).set(evaluation.target_replicas)

    def saw_removal(self, policy: ScalingPolicy) -> None:
        """Show nothing more of a policy that is gone."""
        self.workloads.forget(policy)
        self._withdraw(policy)

    def saw_comparison(self, *, agrees: bool) -> None:
        """Count a decision of both arms about one workload."""
        self.comparisons.labels("agree" if agrees else "disagree").inc()

    def saw_arms(self, arms: Mapping[Arm, int]) -> None:
        """Show how the workloads are shared out."""
        for arm in Arm:
            self.arms.labels(arm.value).set(arms.get(arm, 0))

    def saw_duration(self, seconds: float, trace_id: str | None) -> None:
        """Count an evaluation; its trace becomes its bucket's example."""
        self.duration.observe(seconds, _example(trace_id))

    def saw_stage(self, stage: str, seconds: float, trace_id: str | None) -> None:
        """Count a stage of an evaluation; its trace becomes its bucket's example."""
        self.stages.labels(stage).observe(seconds, _example(trace_id))

    def _withdraw(self, policy: ScalingPolicy) -> None:
        """Show no wish of a policy any more: it would be followed for ever."""
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


def _example(trace_id: str | None) -> dict[str, str] | None:
    return None if trace_id is None else {"trace_id": trace_id}


def _labels(policy: ScalingPolicy) -> tuple[str, str, str, str]:
    target = policy.spec.target
    return policy.namespace, policy.name, target.kind, target.name
