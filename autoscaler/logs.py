"""The operator's log: one line a decision, and whatever else is said, as JSON."""

from __future__ import annotations

import logging
from typing import Final

from autoscaler.arms import Arm
from autoscaler.loop import Evaluation
from autoscaler.tracing import current
from nimbusguard.telemetry.logs import configure as configure_lines

_LOG: Final = logging.getLogger(__name__)
_QUIET: Final = ("kopf", "httpx", "aiohttp", "opentelemetry")


def configure() -> None:
    """Write lines of level INFO and above to standard error; libraries only from WARNING on."""
    configure_lines("operator", "info", dict.fromkeys(_QUIET, logging.WARNING))


def log_decision(evaluation: Evaluation, arm: Arm, problem: str | None) -> None:
    """The line of one decision; docs/metrics.md says what each field means.

    Args:
        evaluation: What was decided.
        arm: Whose decision counted.
        problem: Why the target could not be scaled, if it could not.
    """
    policy, recommendation = evaluation.policy, evaluation.recommendation
    decision = recommendation.decision
    whole = current()
    fields: dict[str, object] = {
        "request_id": None if whole is None else whole.request_id,
        "trace_id": None if whole is None else whole.trace_id,
        "namespace": policy.namespace,
        "policy": policy.name,
        "workload": str(policy.spec.target),
        "mode": policy.spec.mode.value,
        "arm": arm.value,
        "source": recommendation.source.value,
        "model_version": None if decision is None else decision.model_version,
        "action": evaluation.action.name,
        "q_margin": None if decision is None else decision.q_margin,
        "current_replicas": evaluation.seen.current_replicas,
        "target_replicas": evaluation.target_replicas,
        "applied": evaluation.applies and problem is None,
        "rules": list(evaluation.rules),
        "flaws": sorted(evaluation.flaws),
        "problem": problem or evaluation.conflict,
    }
    known = {name: value for name, value in fields.items() if value not in (None, [])}
    _LOG.info("decision", extra=known)
