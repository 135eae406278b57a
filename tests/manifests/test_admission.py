"""The rules of KServe's and Knative's webhooks, on what we ship and on what would break them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.manifests.admission import complaints
from tests.manifests.rendering import (
    Document,
    of_kind,
    render_overlay,
    render_with,
    services,
)


def test_no_rule_complains_about_an_overlay(overlay: list[Document]) -> None:
    """Every overlay passes every rule."""
    assert complaints(overlay) == []


@pytest.mark.parametrize("component", ["autoscaling-hpa", "autoscaling-keda"])
def test_no_rule_complains_about_an_autoscaled_overlay(tmp_path: Path, component: str) -> None:
    """Both classes take the fields that the components write."""
    assert complaints(render_with(tmp_path, component, "overlays/production")) == []


def _container(documents: list[Document], component: str = "predictor", index: int = 0) -> Document:
    found: Document = services(documents)[0]["spec"][component]["containers"][index]
    return found


def _annotate(documents: list[Document], **annotations: str) -> None:
    services(documents)[0]["metadata"]["annotations"].update(
        {f"serving.kserve.io/{key}": value for key, value in annotations.items()}
    )


def _graph_step(documents: list[Document], index: int) -> Document:
    found: Document = of_kind(documents, "InferenceGraph")[0]["spec"]["nodes"]["root"]["steps"][
        index
    ]
    return found


def _add_env(container: Document, name: str, value: str) -> None:
    container.setdefault("env", []).append({"name": name, "value": value})


def _swap_argument(container: Document, old: str, new: str | None) -> None:
    container["args"] = [
        kept
        for argument in container["args"]
        if (kept := new if argument.startswith(old) else argument) is not None
    ]


BREAKS: dict[str, tuple[str, Callable[[list[Document]], object], str]] = {
    "another container name": (
        "local",
        lambda d: _container(d).update(name="predictor"),
        "kserve-container",
    ),
    "PYTHONPATH": ("local", lambda d: _add_env(_container(d), "PYTHONPATH", "/app"), "PYTHONPATH"),
    "an unknown PROTOCOL": (
        "local",
        lambda d: _add_env(_container(d), "PROTOCOL", "v3"),
        "PROTOCOL",
    ),
    "a storage URI without a version": (
        "local",
        lambda d: _add_env(_container(d), "STORAGE_URI", "s3://b/nimbusguard-dqn/latest"),
        "names no version",
    ),
    "STORAGE_URI on the collocated transformer": (
        "collocated",
        lambda d: _add_env(_container(d, index=1), "STORAGE_URI", "s3://b/m/1"),
        "refused",
    ),
    "no mode": (
        "local",
        lambda d: services(d)[0]["metadata"]["annotations"].pop("serving.kserve.io/deploymentMode"),
        "deploymentMode",
    ),
    "the mode's old name": (
        "local",
        lambda d: _annotate(d, deploymentMode="RawDeployment"),
        "deploymentMode",
    ),
    "containerConcurrency on the transformer": (
        "local",
        lambda d: services(d)[0]["spec"]["transformer"].update(containerConcurrency=4),
        "--workers",
    ),
    "no model name": (
        "local",
        lambda d: _swap_argument(_container(d, "transformer"), "--model_name", None),
        "--model_name",
    ),
    "two workers": (
        "local",
        lambda d: _swap_argument(_container(d), "--workers", "--workers=2"),
        "--workers",
    ),
    "no predictor protocol": (
        "local",
        lambda d: _swap_argument(_container(d, "transformer"), "--predictor_protocol", None),
        "--predictor_protocol",
    ),
    "the same port twice in a pod": (
        "collocated",
        lambda d: _swap_argument(_container(d), "--enable_grpc", "--grpc_port=8081"),
        "used twice",
    ),
    "a hop to another port": (
        "collocated",
        lambda d: _swap_argument(_container(d), "--http_port", "--http_port=8086"),
        "--predictor_host",
    ),
    "gRPC before HTTP": (
        "local",
        lambda d: _container(d)["ports"].reverse(),
        "first port",
    ),
    "two ports under Knative": (
        "knative",
        lambda d: _container(d)["ports"].append({"name": "h2c", "containerPort": 8081}),
        "exactly one port",
    ),
    "readiness that never asks the model": (
        "local",
        lambda d: _container(d)["readinessProbe"]["httpGet"].update(path="/v2/health/ready"),
        "readiness",
    ),
    "liveness that asks the predictor behind": (
        "local",
        lambda d: _container(d, "transformer")["livenessProbe"]["httpGet"].update(
            path="/v1/models/nimbusguard-dqn"
        ),
        "liveness",
    ),
    "no probe": ("local", lambda d: _container(d).pop("readinessProbe"), "readinessProbe"),
    "no preStop": ("local", lambda d: _container(d).pop("lifecycle"), "preStop"),
    "a grace that both drains outlast": (
        "local",
        lambda d: services(d)[0]["spec"]["predictor"].update(terminationGracePeriodSeconds=60),
        "grace period",
    ),
    "an unknown autoscaler": (
        "local",
        lambda d: _annotate(d, autoscalerClass="kpa"),
        "autoscaler class",
    ),
    "zero replicas": (
        "local",
        lambda d: services(d)[0]["spec"]["predictor"].update(minReplicas=0),
        "zero",
    ),
    "a strategy under Knative": (
        "knative",
        lambda d: services(d)[0]["spec"]["predictor"].update(deploymentStrategy={}),
        "deploymentStrategy",
    ),
    "a custom metric for the HPA": (
        "local",
        lambda d: _annotate(d, autoscalerClass="hpa"),
        "cpu or memory",
    ),
    "scraping by annotation": (
        "local",
        lambda d: services(d)[0]["metadata"]["annotations"].update(
            {"serving.kserve.io/enable-prometheus-scraping": "true"}
        ),
        "Standard mode does not open",
    ),
    "a percentage in Standard mode": (
        "local",
        lambda d: services(d)[0]["spec"]["predictor"].update(canaryTrafficPercent=10),
        "silently ignored",
    ),
    "two splits": (
        "canary-traffic",
        lambda d: services(d)[0]["spec"]["transformer"].update(canaryTrafficPercent=10),
        "two splits",
    ),
    "more than all": (
        "canary-traffic",
        lambda d: services(d)[0]["spec"]["predictor"].update(canaryTrafficPercent=110),
        "is a percentage",
    ),
    "a canary of the same model": (
        "canary-traffic",
        lambda d: _container(d).pop("env"),
        "same model twice",
    ),
    "the new canary field": (
        "local",
        lambda d: services(d)[0]["spec"].update(canary=[]),
        "spec.canary",
    ),
    "weights that make 101": (
        "canary-graph",
        lambda d: _graph_step(d, 0).update(weight=91),
        "make 100",
    ),
    "the same version behind both steps": (
        "canary-graph",
        lambda d: services(d)[1]["spec"]["predictor"].update(services(d)[0]["spec"]["predictor"]),
        "same model twice",
    ),
    "a step to nowhere": (
        "canary-graph",
        lambda d: _graph_step(d, 0).update(serviceName="gone"),
        "no InferenceService",
    ),
    "a step with two targets": (
        "canary-graph",
        lambda d: _graph_step(d, 0).update(serviceUrl="http://x"),
        "exactly one target",
    ),
    "a step's name twice": (
        "canary-graph",
        lambda d: _graph_step(d, 0).update(name="canary"),
        "step names",
    ),
    "our Service beside KServe's": (
        "knative",
        lambda d: d.extend(of_kind(render_overlay("local"), "Service")),
        "makes the Service",
    ),
    "no Service for the operators": (
        "local",
        lambda d: d.remove(of_kind(d, "Service")[0]),
        "nobody else",
    ),
    "a preStop under Knative": (
        "knative",
        lambda d: _container(d).update(lifecycle={}),
        "Knative refuses lifecycle",
    ),
    "a pod field under Knative": (
        "knative",
        lambda d: services(d)[0]["spec"]["predictor"].update(securityContext={}),
        "Knative refuses securityContext",
    ),
    "root": (
        "local",
        lambda d: _container(d)["securityContext"].update(runAsUser=0),
        "root",
    ),
    "a writable root": (
        "local",
        lambda d: _container(d)["securityContext"].update(readOnlyRootFilesystem=False),
        "read-only",
    ),
    "a capability": (
        "local",
        lambda d: _container(d)["securityContext"].update(capabilities={}),
        "capability",
    ),
    "no seccomp": (
        "local",
        lambda d: _container(d)["securityContext"].pop("seccompProfile"),
        "seccomp",
    ),
    "no limits": ("local", lambda d: _container(d)["resources"].pop("limits"), "limits"),
    "a token": (
        "local",
        lambda d: services(d)[0]["spec"]["predictor"].pop("automountServiceAccountToken"),
        "token",
    ),
    "service links": (
        "local",
        lambda d: services(d)[0]["spec"]["predictor"].pop("enableServiceLinks"),
        "enableServiceLinks",
    ),
    "a selector of nothing": (
        "local",
        lambda d: of_kind(d, "Service")[0]["spec"]["selector"].update(app="isvc.other"),
        "nothing here makes",
    ),
    "latest": (
        "local",
        lambda d: _container(d).update(image="nimbusguard/predictor:latest"),
        "pinned",
    ),
    "no tag": ("local", lambda d: _container(d).update(image="nimbusguard/predictor"), "pinned"),
    "a Secret": (
        "local",
        lambda d: d.append({"kind": "Secret", "metadata": {"name": "s3"}, "apiVersion": "v1"}),
        "Secret",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_manifest_is_refused_with_the_reason(name: str) -> None:
    """Each rule sees the mistake that it was written for."""
    overlay, break_it, expected = BREAKS[name]
    documents = render_overlay(overlay)

    break_it(documents)

    assert any(expected in complaint for complaint in complaints(documents)), complaints(documents)
