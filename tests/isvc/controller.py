"""What KServe's controller makes of an InferenceService in Standard mode: pods and Services. Pure.

Follows kserve/kserve, `components/{predictor,transformer}.go` and
`reconcilers/service/service_reconciler.go` under `pkg/controller/v1beta1/inferenceservice`,
`pkg/apis/serving/v1beta1/transformer_custom.go`, and
`pkg/webhook/admission/pod/storage_initializer_injector.go`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

MODEL_DIR = "/mnt/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplate:
    """The pods of one component.

    Attributes:
        name: Of the Deployment, `<isvc>-<component>`.
        label: Value of `app` that every selector uses.
        replicas: How many are wanted.
        spec: The PodSpec with everything injected.
        storage_uri: What the storage initializer would have fetched to `/mnt/models`, if anything.
    """

    name: str
    label: str
    replicas: int
    spec: Document
    storage_uri: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A cluster-internal name in front of pods.

    Attributes:
        name: Of the Service.
        namespace: Of the Service.
        label: Which pods; value of `app`.
        ports: Port of the Service to port of the pod.
    """

    name: str
    namespace: str
    label: str
    ports: tuple[tuple[int, int], ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that cluster DNS resolves to it."""
        short = f"{self.name}.{self.namespace}"
        return (short, f"{short}.svc", f"{short}.svc.cluster.local")


def pod_templates(service: Document) -> list[PodTemplate]:
    """The Deployments of one InferenceService."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    return [
        _template(service, component, f"{name}-predictor.{namespace}")
        for component in ("predictor", "transformer")
        if component in service["spec"]
    ]


def service_specs(documents: list[Document]) -> list[ServiceSpec]:
    """KServe's own Services, and those that stand in the manifests."""
    found = [
        ServiceSpec(
            name=template.name,
            namespace=service["metadata"]["namespace"],
            label=template.label,
            ports=_exposed(template.spec),
        )
        for service in documents
        if service["kind"] == "InferenceService"
        for template in pod_templates(service)
    ]
    found.extend(
        ServiceSpec(
            name=document["metadata"]["name"],
            namespace=document["metadata"]["namespace"],
            label=document["spec"]["selector"]["app"],
            ports=tuple((port["port"], port["targetPort"]) for port in document["spec"]["ports"]),
        )
        for document in documents
        if document["kind"] == "Service" and document["spec"]["type"] == "ClusterIP"
    )
    return found


def _template(service: Document, component: str, predictor_host: str) -> PodTemplate:
    name = service["metadata"]["name"]
    spec = copy.deepcopy(service["spec"][component])
    uri = None
    for container in spec["containers"]:
        container.setdefault("env", []).append({"name": "INFERENCE_SERVICE_NAME", "value": name})
        for entry in container["env"]:
            if entry["name"] == "STORAGE_URI":
                uri, entry["value"] = entry["value"], MODEL_DIR
    if component == "transformer":
        arguments = spec["containers"][0]["args"]
        injected = {
            "--model_name": name,
            "--predictor_host": predictor_host,
            "--http_port": "8080",
        }
        for flag, value in injected.items():
            if not any(argument.startswith(flag) for argument in arguments):
                arguments += [flag, value]
    return PodTemplate(
        name=f"{name}-{component}",
        label=f"isvc.{name}-{component}",
        replicas=spec.get("minReplicas", 1),
        spec=spec,
        storage_uri=uri,
    )


def _exposed(spec: Document) -> tuple[tuple[int, int], ...]:
    """Port 80 goes to the first port of the container in front, the others keep their numbers."""
    by_name = {container["name"]: container for container in spec["containers"]}
    front = by_name.get("transformer-container", spec["containers"][0])
    first, *others = [port["containerPort"] for port in front.get("ports", [])] or [8080]
    return ((80, first), *((port, port) for port in others))
