"""A `ScalingPolicy` as a checked value: what a user asks for, read from the custom resource.

The CRD's schema refuses most mistakes at the API server; this is the same knowledge for objects
that came in before the schema, and for rules between fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NoReturn

from nimbusguard.client.observation import MOST_REPLICAS
from nimbusguard.contract.actions import DEFAULT_MAX_REPLICAS, DEFAULT_MIN_REPLICAS
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.promql import check_workload
from nimbusguard.policy.guard import GuardSettings

GROUP: Final = "nimbusguard.io"
VERSION: Final = "v1alpha1"
PLURAL: Final = "scalingpolicies"
KIND: Final = "ScalingPolicy"
PAUSE_ANNOTATION: Final = f"{GROUP}/paused"
"""The kill switch: any value but `"false"` stops every change of the target, whatever the spec
says. Whoever writes `True` or `yes` in a hurry means it."""

_TARGET_RULES: Final = (
    ("name", re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?"), "a name of an object"),
    ("apiVersion", re.compile(r"([a-z0-9][a-z0-9.-]*/)?v[a-z0-9]+"), "version or group/version"),
    ("kind", re.compile(r"[A-Z][A-Za-z0-9]*"), "a kind such as Deployment"),
)


class Mode(StrEnum):
    """How far a policy goes."""

    SHADOW = "shadow"
    """Decisions are recorded."""
    ADVISE = "advise"
    """And shown in status and metrics, where an HPA or KEDA may read them."""
    ACT = "act"
    """And carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is scaled: anything with a scale subresource, in the policy's namespace."""

    api_version: str = "apps/v1"
    kind: str = "Deployment"
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSpec:
    """What the users of the workload expect."""

    latency_s: float = 0.25
    """A request slower than this, or failed, violates the objective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """The spec of one policy."""

    target: Target
    min_replicas: int = DEFAULT_MIN_REPLICAS
    max_replicas: int = DEFAULT_MAX_REPLICAS
    interval_s: float = 15.0
    """Seconds between two decisions; the interval of the HPA controller."""
    stabilization_window_s: float = GuardSettings().stabilization_window_s
    """Seconds for which a wish of the HPA rule keeps replicas from being removed."""
    mode: Mode = Mode.SHADOW
    """Nothing is changed until somebody asks for it."""
    objective: ObjectiveSpec = field(default_factory=ObjectiveSpec)
    canary_share: float = 0.0
    """Share of workloads, by stable hash, that the canary decides for."""
    metrics_namespace: str | None = None
    """Value of the label `namespace` of the workload's series; the policy's own if None."""
    metrics_workload: str | None = None
    """Value of the label `workload` of the workload's series; the target's name if None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """One object of the cluster."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    """Moment at which the API server took it in, as that writes it; such texts sort by time."""
    paused: bool
    spec: PolicySpec

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def workload(self) -> tuple[str, str]:
        """Labels `namespace` and `workload` of its series."""
        return (
            self.spec.metrics_namespace or self.namespace,
            self.spec.metrics_workload or self.spec.target.name,
        )


def policy_of(body: Mapping[str, Any]) -> ScalingPolicy:
    """Read an object as the API server gives it.

    Raises:
        InvalidRequest: A field breaks its rule; the message names it.
    """
    metadata = body["metadata"]
    policy = ScalingPolicy(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        created=metadata.get("creationTimestamp", ""),
        paused=_is_paused(metadata.get("annotations") or {}),
        spec=spec_of(body.get("spec") or {}),
    )
    check_workload(*policy.workload, "spec.metrics")
    return policy


def _is_paused(annotations: Mapping[str, str]) -> bool:
    return annotations.get(PAUSE_ANNOTATION, "false").strip().lower() != "false"


def spec_of(spec: Mapping[str, Any]) -> PolicySpec:
    """Read and check a spec.

    Raises:
        InvalidRequest: A field breaks its rule; the message names it.
    """
    replicas = _object(spec, "replicas")
    objective = _object(spec, "objective")
    metrics = _object(spec, "metrics")
    minimum = _count(replicas, "min", "replicas.min", default=DEFAULT_MIN_REPLICAS)
    maximum = _count(replicas, "max", "replicas.max", default=DEFAULT_MAX_REPLICAS)
    if minimum > maximum:
        _refuse("replicas.min", f"at most replicas.max ({maximum})", minimum)
    return PolicySpec(
        target=_target(_object(spec, "target")),
        min_replicas=minimum,
        max_replicas=maximum,
        interval_s=_number(spec, "intervalSeconds", 15.0, low=1.0, high=3600.0),
        stabilization_window_s=_number(
            _object(spec, "scaleDown"),
            "stabilizationWindowSeconds",
            GuardSettings().stabilization_window_s,
            low=0.0,
            high=86_400.0,
        ),
        mode=_mode(spec.get("mode", Mode.SHADOW.value)),
        objective=ObjectiveSpec(
            latency_s=_number(objective, "latencySeconds", 0.25, low=0.001, high=3600.0)
        ),
        canary_share=_number(spec, "canaryShare", 0.0, low=0.0, high=1.0),
        metrics_namespace=_label(metrics, "namespace"),
        metrics_workload=_label(metrics, "workload"),
    )


def _target(target: Mapping[str, Any]) -> Target:
    values = {"apiVersion": "apps/v1", "kind": "Deployment", **target}
    for name in ("apiVersion", "kind", "name"):
        value = values.get(name)
        if not isinstance(value, str) or not value:
            _refuse(f"target.{name}", "a name", value)
    # All three become parts of a path at the API server.
    for name, pattern, expected in _TARGET_RULES:
        if not pattern.fullmatch(values[name]):
            _refuse(f"target.{name}", expected, values[name])
    return Target(api_version=values["apiVersion"], kind=values["kind"], name=values["name"])


def _mode(value: object) -> Mode:
    if value not in list(Mode):
        _refuse("mode", f"one of {', '.join(Mode)}", value)
    return Mode(str(value))


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name) or {}
    if not isinstance(value, Mapping):
        _refuse(name, "an object", value)
    return value


def _count(parent: Mapping[str, Any], name: str, path: str, *, default: int) -> int:
    value = parent.get(name, default)
    # Without a pod there are no metrics, and without metrics no way back from zero.
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_REPLICAS:
        _refuse(path, f"a whole number from 1 to {MOST_REPLICAS}", value)
    return value


def _number(
    parent: Mapping[str, Any], name: str, default: float, *, low: float, high: float
) -> float:
    value = parent.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        _refuse(name, f"a number from {low:g} to {high:g}", value)
    return float(value)


def _label(parent: Mapping[str, Any], name: str) -> str | None:
    value = parent.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        _refuse(f"metrics.{name}", "a name", value)
    return value


def _refuse(path: str, expected: str, got: object) -> NoReturn:
    message = f"spec.{path}: expected {expected}, got {got!r}"
    raise InvalidRequest(message)
