"""What Prometheus counted of each version, as the arms of a judgement.

Each server process serves one version at a time and says which in `nimbusguard_model_info`, so
counters join to versions by `instance`. Which server is asked depends on the kind: behind an
InferenceGraph each version has a transformer of its own, and callers see its answers; with a
traffic split one transformer speaks to both versions, so the predictors are compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from nimbusguard.canary.plan import Kind
from nimbusguard.contract.actions import ACTION_NAMES
from nimbusguard.contract.errors import InvalidRequest, MetricsUnavailable
from nimbusguard.policy.bounds import Histogram
from nimbusguard.policy.canary import Arm

_ROUTES: Final = "v1_predict|v2_infer|grpc_infer"
_REFUSED: Final = frozenset({"503", "UNAVAILABLE"})
_GRPC_ERRORS: Final = frozenset(
    {"INTERNAL", "DEADLINE_EXCEEDED", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", "CANCELLED"}
)
_WINDOW: Final = re.compile(r"[1-9][0-9]*[smhd]")
_SELECTOR: Final = re.compile(r'\w+(=|!=|=~|!~)"[^"\\]*"(,\w+(=|!=|=~|!~)"[^"\\]*")*')


class Prometheus(Protocol):
    """Answers instant queries."""

    def query(self, promql: str, *, deadline_s: float | None = None) -> object:
        """The decoded answer of `/api/v1/query`.

        Raises:
            MetricsUnavailable: There was none.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Where and over how long to count.

    Attributes:
        kind: How requests are split.
        selector: Labels of the series, as in a query: `namespace="nimbusguard-serving"`.
        window: How far back, as in a query: `10m`.
    """

    kind: Kind
    selector: str
    window: str

    def __post_init__(self) -> None:
        """Refuse what would change the meaning of a query.

        Raises:
            InvalidRequest: The window is no duration, or the selector no list of labels.
        """
        if not _WINDOW.fullmatch(self.window):
            message = f"window: expected a duration such as 10m, got {self.window!r}"
            raise InvalidRequest(message)
        if not _SELECTOR.fullmatch(self.selector):
            message = (
                f'selector: expected labels such as namespace="a",job="b", got {self.selector!r}'
            )
            raise InvalidRequest(message)

    def queries(self) -> dict[str, str]:
        """The queries by what they count."""
        asked = "transformer" if self.kind is Kind.GRAPH else "predictor"
        routes = f'route=~"{_ROUTES}"'
        actions = f"nimbusguard_decisions_total{self._matching('transformer')}"
        return {
            "info": f"nimbusguard_model_info{self._matching('predictor')}",
            "requests": self._by_version(
                f"nimbusguard_model_serving_requests_total{self._matching(asked, routes)}",
                asked,
                "status",
            ),
            "latency": self._by_version(
                f"nimbusguard_request_duration_seconds_bucket{self._matching(asked, routes)}",
                asked,
                "le",
            ),
            "non_finite": self._by_version(
                f"nimbusguard_non_finite_outputs_total{self._matching('predictor')}", "predictor"
            ),
            "actions": f"sum by (model_version, action) (increase({actions}[{self.window}]))",
        }

    def _matching(self, component: str, *others: str) -> str:
        return "{" + ",".join((self.selector, f'component="{component}"', *others)) + "}"

    def _by_version(self, series: str, component: str, *labels: str) -> str:
        """Increase of a counter, summed by the version that its process serves."""
        info = f"nimbusguard_model_info{self._matching(component)}"
        return (
            f"sum by ({', '.join(('model_version', *labels))}) (increase({series}[{self.window}]) "
            "* on (instance) group_left (model_version) "
            f"max by (instance, model_version) ({info}))"
        )


@dataclass(slots=True)
class _Counts:
    fingerprint: str = ""
    requests: int = 0
    errors: int = 0
    refused: int = 0
    non_finite: int = 0
    below: dict[float, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)


def read_arms(prometheus: Prometheus, figures: Figures) -> dict[str, Arm]:
    """The arms of every version that a process serves now.

    Raises:
        MetricsUnavailable: Prometheus gave no answer, or one that cannot be used.
    """
    answers = {name: prometheus.query(text) for name, text in figures.queries().items()}
    return arms_of(answers)


def arms_of(answers: Mapping[str, object]) -> dict[str, Arm]:
    """Arms from the answers to `Figures.queries`. Pure."""
    counts: dict[str, _Counts] = {}
    for labels, _ in _samples(answers["info"]):
        if version := labels.get("model_version"):
            counts.setdefault(version, _Counts()).fingerprint = labels.get("fingerprint", "")
    for labels, value in _samples(answers["requests"]):
        _add_requests(counts, labels, round(value))
    for labels, value in _samples(answers["latency"]):
        if (one := counts.get(labels.get("model_version", ""))) is not None:
            one.below[float(labels["le"])] = round(value)
    for labels, value in _samples(answers["non_finite"]):
        if (one := counts.get(labels.get("model_version", ""))) is not None:
            one.non_finite = round(value)
    for labels, value in _samples(answers["actions"]):
        if (one := counts.get(labels.get("model_version", ""))) is not None:
            one.actions[labels["action"]] = round(value)
    return {version: _arm(version, one) for version, one in counts.items()}


def _add_requests(counts: dict[str, _Counts], labels: Mapping[str, str], amount: int) -> None:
    one = counts.get(labels.get("model_version", ""))
    if one is None:
        return
    status = labels.get("status", "")
    one.requests += amount
    if status in _REFUSED:
        one.refused += amount
    elif status.startswith("5") or status in _GRPC_ERRORS:
        one.errors += amount


def _arm(version: str, counts: _Counts) -> Arm:
    return Arm(
        version=version,
        fingerprint=counts.fingerprint,
        requests=counts.requests,
        errors=counts.errors,
        refused=counts.refused,
        non_finite=counts.non_finite,
        latency=_histogram(counts.below),
        actions=tuple(counts.actions.get(name, 0) for name in ACTION_NAMES),
    )


def _histogram(below: Mapping[float, int]) -> Histogram:
    """Cumulative counts, each rounded by itself, to counts by bucket."""
    bounds = tuple(sorted(bound for bound in below if bound != float("inf")))
    if not bounds:
        return Histogram((1.0,), (0, 0))
    rising: list[int] = []
    for bound in (*bounds, float("inf")):
        rising.append(max(below.get(bound, 0), rising[-1] if rising else 0))
    steps = zip(rising, [0, *rising], strict=False)
    return Histogram(bounds, tuple(upper - lower for upper, lower in steps))


def _samples(answer: object) -> Iterable[tuple[dict[str, str], float]]:
    """Labels and value of each sample of an instant vector."""
    try:
        result: list[dict[str, Any]] = answer["data"]["result"]  # type: ignore[index]
        found = [(dict(row["metric"]), float(row["value"][1])) for row in result]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        message = f"Prometheus: expected an instant vector, got {answer!r:.200}"
        raise MetricsUnavailable(message) from error
    return [(labels, value) for labels, value in found if not math.isnan(value)]
