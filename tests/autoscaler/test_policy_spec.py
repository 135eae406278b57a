"""A `ScalingPolicy` is read as a checked value, or refused by the field."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.policy_spec import (
    Mode,
    ObjectiveSpec,
    PolicySpec,
    ScalingPolicy,
    Target,
    policy_of,
    spec_of,
)
from nimbusguard.contract.errors import InvalidRequest

WEB: dict[str, Any] = {"target": {"name": "web"}}


def body(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": "web", "uid": "u1", **metadata}, "spec": spec}


def test_a_policy_needs_no_more_than_a_target() -> None:
    """And then changes nothing: the default mode only records."""
    policy = policy_of(body(WEB))

    assert policy == ScalingPolicy(
        namespace="shop",
        name="web",
        uid="u1",
        generation=0,
        created="",
        paused=False,
        spec=PolicySpec(target=Target(name="web")),
    )
    assert policy.spec.mode is Mode.SHADOW
    assert policy.spec.interval_s == 15.0
    assert policy.key == "shop/web"
    assert policy.workload == ("shop", "web")


def test_every_field_is_read() -> None:
    """In the units of the names."""
    policy = policy_of(
        body(
            {
                "target": {"apiVersion": "example.io/v1", "kind": "GameServer", "name": "a.b-1"},
                "replicas": {"min": 2, "max": 200},
                "intervalSeconds": 30,
                "scaleDown": {"stabilizationWindowSeconds": 120},
                "mode": "act",
                "objective": {"latencySeconds": 1},
                "canaryShare": 0.1,
                "metrics": {"namespace": "other", "workload": "api"},
            },
            generation=7,
            annotations={"nimbusguard.io/paused": "true"},
        )
    )

    assert policy.generation == 7
    assert policy.paused
    assert policy.workload == ("other", "api")
    assert policy.spec == PolicySpec(
        target=Target(api_version="example.io/v1", kind="GameServer", name="a.b-1"),
        min_replicas=2,
        max_replicas=200,
        interval_s=30.0,
        stabilization_window_s=120.0,
        mode=Mode.ACT,
        objective=ObjectiveSpec(latency_s=1.0),
        canary_share=0.1,
        metrics_namespace="other",
        metrics_workload="api",
    )
    assert str(policy.spec.target) == "GameServer/a.b-1"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"target": {}}, "target.name"),
        ({"target": {"name": ""}}, "target.name"),
        ({"target": {"name": "../secrets"}}, "target.name"),
        ({"target": {"name": "web", "kind": "deployments/x"}}, "target.kind"),
        ({"target": {"name": "web", "apiVersion": "apps/v1/x"}}, "target.apiVersion"),
        ({"target": {"name": "web", "apiVersion": 1}}, "target.apiVersion"),
        ({"target": "web"}, "target"),
        ({"replicas": {"min": 5, "max": 4}}, "replicas.min"),
        ({"replicas": {"min": 0}}, "replicas.min"),
        ({"replicas": {"max": 1.5}}, "replicas.max"),
        ({"replicas": {"max": True}}, "replicas.max"),
        ({"intervalSeconds": 0}, "intervalSeconds"),
        ({"intervalSeconds": "15"}, "intervalSeconds"),
        ({"intervalSeconds": float("nan")}, "intervalSeconds"),
        ({"scaleDown": {"stabilizationWindowSeconds": -1}}, "stabilizationWindowSeconds"),
        ({"mode": "auto"}, "mode"),
        ({"mode": None}, "mode"),
        ({"mode": []}, "mode"),
        ({"objective": {"latencySeconds": 0}}, "latencySeconds"),
        ({"canaryShare": 1.1}, "canaryShare"),
        ({"metrics": {"workload": ""}}, "metrics.workload"),
        ({"metrics": {"namespace": 1}}, "metrics.namespace"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named(change: dict[str, Any], path: str) -> None:
    """The message becomes the object's condition."""
    with pytest.raises(InvalidRequest, match=rf"^spec\.{path}: expected .*, got "):
        spec_of(WEB | change)


@pytest.mark.parametrize(
    ("value", "paused"),
    [
        ("true", True),
        ("True", True),
        ("yes", True),
        ("", True),
        ("false", False),
        (" False", False),
    ],
)
def test_every_value_but_false_pauses(value: str, paused: bool) -> None:
    """A kill switch does not wait for the right spelling."""
    metadata = {"namespace": "shop", "name": "web", "uid": "u"}
    metadata |= {"annotations": {"nimbusguard.io/paused": value}}  # type: ignore[dict-item]

    assert policy_of({"metadata": metadata, "spec": {"target": {"name": "web"}}}).paused is paused


def test_labels_that_prometheus_could_not_hold_are_refused() -> None:
    """One bad name would refuse the whole query for all policies."""
    with pytest.raises(InvalidRequest, match=r"spec\.metrics: workload\.namespace: expected"):
        policy_of(body(WEB | {"metrics": {"namespace": 'x"} or vector(1)'}}))
