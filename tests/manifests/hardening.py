"""What Knative's webhook refuses, what the Pod Security Standards ask for, and our own rules.

Sources: knative/serving, `pkg/apis/serving/fieldmask.go` and the defaults in
`pkg/apis/config/features.go`; Kubernetes, Pod Security Standards, "restricted".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.manifests.rendering import Document, components, containers, mode, of_kind, services

KNATIVE_REFUSES = {
    "affinity",
    "automountServiceAccountToken",
    "dnsPolicy",
    "hostAliases",
    "initContainers",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "shareProcessNamespace",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
}
"""Fields of a pod that Knative never takes, or only behind flags that are off by default."""


def knative_fields(documents: list[Document]) -> Iterator[str]:
    """Knative's webhook refuses pod and container fields that are off by default."""
    for service in services(documents):
        if mode(service) != "Knative":
            continue
        for name, component in components(service):
            yield from (
                f"{name}: Knative refuses {field}" for field in KNATIVE_REFUSES & component.keys()
            )
            for container in component.get("containers", []):
                refused = {"lifecycle", "startupProbe", "stdin", "tty"} & container.keys()
                yield from (f"{name}: Knative refuses {field}" for field in refused)


def restricted(documents: list[Document]) -> Iterator[str]:
    """The restricted Pod Security Standard, a read-only root and no token, in each container."""
    runtimes = [
        ("runtime", container)
        for document in of_kind(documents, "ServingRuntime")
        for container in document["spec"]["containers"]
    ]
    held = [pair for service in services(documents) for pair in containers(service)]
    for name, container in [*held, *runtimes]:
        if "modelFormat" in container:
            continue
        context = container.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
            yield f"{name}: must not run as root"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: the root file system must be read-only"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation must be false"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: every capability must be dropped"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: seccomp must be RuntimeDefault"
        resources = container.get("resources", {})
        if any(
            {"cpu", "memory"} - resources.get(kind, {}).keys() for kind in ("requests", "limits")
        ):
            yield f"{name}: requests and limits of cpu and memory"
    tokenless = all(
        account.get("automountServiceAccountToken") is False
        for account in of_kind(documents, "ServiceAccount")
    )
    for service in services(documents):
        for name, component in components(service):
            if component.get("automountServiceAccountToken") is not False and not (
                mode(service) == "Knative" and tokenless
            ):
                yield f"{name}: the service account's token is mounted"
            if component.get("enableServiceLinks") is not False:
                yield f"{name}: enableServiceLinks puts every Service into the environment"


def selectors(documents: list[Document]) -> Iterator[str]:
    """What selects pods selects pods that KServe makes: `app: isvc.<name>-<component>`."""
    made = {
        f"isvc.{service['metadata']['name']}-{name}"
        for service in services(documents)
        for name, _ in components(service)
    }
    for document in documents:
        wanted: list[str] = []
        spec = document.get("spec", {})
        match document["kind"]:
            case "Service" if spec["type"] != "ExternalName":
                wanted = [spec["selector"]["app"]]
            case "PodDisruptionBudget":
                wanted = [spec["selector"]["matchLabels"]["app"]]
            case "NetworkPolicy":
                wanted = [spec["podSelector"]["matchLabels"]["app"]]
            case "PodMonitor":
                wanted = spec["selector"]["matchExpressions"][0]["values"]
        for label in wanted:
            if label not in made:
                yield f"{document['kind']} selects {label}, which nothing here makes"


def images_and_secrets(documents: list[Document]) -> Iterator[str]:
    """Images by tag or digest, never `latest`; no Secret, no value that looks like one."""
    for document in documents:
        if document["kind"] == "Secret":
            yield "a Secret stands in the manifests"
        for path, value in _leaves(document):
            field = path.rsplit("/", 1)[-1]
            if field == "image" and not re.search(
                r"(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})$", value
            ):
                yield f"{path}: {value} is not pinned"
            if re.search(r"password|secret|token$|access.?key|credential", field, re.IGNORECASE):
                yield f"{path} looks like a secret"


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(below, f"{path}/{key}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _leaves(below, f"{path}/{index}")
    elif isinstance(value, str):
        yield path, value
