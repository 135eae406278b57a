"""What the last evaluation of each workload was: read when somebody looks, never recorded.

Fifteen series a workload. A thousand workloads with eleven features each would cost 25 ms an
interval as gauges that are set; kept as references and written out at a scrape they cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from autoscaler.loop import Evaluation
from autoscaler.policy_spec import ScalingPolicy
from nimbusguard.contract.features import NAMES

_LABELS = ("namespace", "policy", "workload")


class WorkloadMetrics(Collector):
    """The newest evaluation of every policy."""

    def __init__(self) -> None:
        self._last: dict[str, Evaluation] = {}

    def saw(self, evaluation: Evaluation) -> None:
        """Remember what came of a policy."""
        self._last[evaluation.policy.key] = evaluation

    def forget(self, policy: ScalingPolicy) -> None:
        """The policy is gone."""
        self._last.pop(policy.key, None)

    def collect(self) -> Iterator[Metric]:
        """All of it, as it is now."""
        last = list(self._last.values())
        yield _gauge(
            "nimbusguard_workload_feature",
            "Raw value of a feature at the last evaluation; absent where the metric was.",
            "feature",
            (
                (one, name, value)
                for one in last
                for name, value in zip(NAMES, one.seen.values, strict=True)
                if not math.isnan(value)
            ),
        )
        yield _gauge(
            "nimbusguard_workload_replicas",
            "Replicas at the last evaluation: those asked for until then, and those decided on.",
            "state",
            (
                (one, state, float(value))
                for one in last
                for state, value in (
                    ("current", one.seen.current_replicas),
                    ("target", one.target_replicas),
                )
            ),
        )
        yield _gauge(
            "nimbusguard_workload_action",
            "Replicas that the last action adds, -2 to 2, by who decided.",
            "source",
            ((one, one.recommendation.source.value, float(one.action.change)) for one in last),
        )
        yield _gauge(
            "nimbusguard_workload_q_margin",
            "Q-margin of the network's last decision, by its version.",
            "model_version",
            (
                (one, decision.model_version, decision.q_margin)
                for one in last
                if (decision := one.recommendation.decision) is not None
            ),
        )


def _gauge(
    name: str, text: str, label: str, values: Iterable[tuple[Evaluation, str, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[*_LABELS, label])
    for one, value_of_label, value in values:
        policy = one.policy
        family.add_metric(
            [policy.namespace, policy.name, policy.spec.target.name, value_of_label], value
        )
    return family
