"""What refuses or silently spoils a manifest in a cluster, as functions from objects to complaints.

Structure is the schemas' business. Here are the rules that stand in the code of KServe's admission
webhook and controllers (kserve/kserve, `pkg/apis/serving/v1beta1/*_validation.go`, `*_custom.go`,
`pkg/controller/v1beta1/inferenceservice`); `hardening` holds those of Knative's webhook, of the Pod
Security Standards and our own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from tests.manifests import hardening
from tests.manifests.rendering import (
    Document,
    components,
    containers,
    environment,
    flags,
    mode,
    of_kind,
    services,
)

MODEL = "nimbusguard-dqn"
DRAIN_S = 30
"""The SDK drains HTTP and then gRPC, each for up to this long."""

VERSIONED = re.compile(r"^(s3|gs|pvc|hf|https)://.+/[1-9][0-9]*$")
"""A storage URI that ends in a model version, which is never changed once published."""

Rule = Callable[[list[Document]], Iterator[str]]


def names_and_blocked_variables(documents: list[Document]) -> Iterator[str]:
    """The first container is `kserve-container`; PYTHONPATH and a foreign PROTOCOL are refused."""
    for service in services(documents):
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"]):
            yield "the InferenceService's name is no DNS label"
        for name, component in components(service):
            names = [container["name"] for container in component.get("containers", [])]
            if names and names[0] != "kserve-container":
                yield f"{name}: the first container must be called kserve-container, not {names[0]}"
            if set(names[1:]) - {"transformer-container"}:
                yield f"{name}: unknown containers {names[1:]}"
        for name, container in containers(service):
            variables = environment(container)
            if "PYTHONPATH" in variables:
                yield f"{name}: PYTHONPATH is refused by the webhook"
            if variables.get("PROTOCOL", "v1") not in {"v1", "v2"}:
                yield f"{name}: PROTOCOL must be v1 or v2"


def storage(documents: list[Document]) -> Iterator[str]:
    """One storage URI, of a version; never on the collocated transformer."""
    for service in services(documents):
        predictor = service["spec"]["predictor"]
        for name, container in containers(service):
            uris = [environment(container).get("STORAGE_URI"), container.get("storageUri")]
            for uri in filter(None, uris):
                if not VERSIONED.match(uri):
                    yield f"{name}: {uri} names no version"
                if "storageUris" in predictor:
                    yield f"{name}: storageUri and storageUris exclude each other"
            if container.get("name") == "transformer-container" and any(uris):
                yield f"{name}: STORAGE_URI on transformer-container is refused"


def explicit_mode(documents: list[Document]) -> Iterator[str]:
    """Code, ConfigMap and chart have different defaults, so the mode is always written."""
    for document in documents:
        if document["kind"] in {"InferenceService", "InferenceGraph"} and mode(document) not in {
            "Standard",
            "Knative",
        }:
            yield f"{document['metadata']['name']}: deploymentMode must be Standard or Knative"


def arguments(documents: list[Document]) -> Iterator[str]:
    """What the controller would inject wrongly, or not at all, is given."""
    for service in services(documents):
        for name, component in components(service):
            if "containerConcurrency" in component:
                yield f"{name}: containerConcurrency makes KServe inject --workers"
        for name, container in containers(service):
            if "modelFormat" in container:
                continue
            given = flags(container)
            if given.get("--model_name") != MODEL:
                yield f"{name}: --model_name must be {MODEL}, or the hop asks for another"
            if given.get("--workers") != "1":
                yield f"{name}: --workers must be 1; the SDK's other processes know no predictor"
            transforms = name == "transformer" or container["name"] == "transformer-container"
            if transforms and given.get("--predictor_protocol") not in {"v2", "grpc-v2"}:
                yield f"{name}: --predictor_protocol is not injected and its default is v1"


def collocation(documents: list[Document]) -> Iterator[str]:
    """Two containers in one pod: every port once, and the hop names the model's port."""
    for service in services(documents):
        pair = {
            container["name"]: flags(container)
            for container in service["spec"]["predictor"].get("containers", [])
        }
        if "transformer-container" not in pair:
            continue
        if "transformer" in service["spec"]:
            yield "a collocated transformer and a second one"
        model, transformer = pair["kserve-container"], pair["transformer-container"]
        if transformer.get("--predictor_host") != f"localhost:{model.get('--http_port')}":
            yield "--predictor_host must be localhost and the model container's HTTP port"
        ports = [flag["--http_port"] for flag in (model, transformer)]
        ports += [
            flag.get("--grpc_port", "8081")
            for flag in (model, transformer)
            if flag.get("--enable_grpc") != "false"
        ]
        yield from (f"port {port} is used twice" for port, n in Counter(ports).items() if n > 1)


def ports(documents: list[Document]) -> Iterator[str]:
    """Standard: HTTP first, since port 80 goes to the first. Knative: one port in the whole pod."""
    for service in services(documents):
        for name, component in components(service):
            declared = {
                container["name"]: container.get("ports", [])
                for container in component.get("containers", [])
            }
            if mode(service) == "Knative":
                if sum(map(len, declared.values())) != 1:
                    yield f"{name}: Knative takes exactly one port"
                continue
            fronted = declared.get("transformer-container", declared.get("kserve-container"))
            if fronted is None:
                continue
            first = fronted[0] if fronted else {}
            if (
                first.get("name", "").startswith(("h2c", "grpc"))
                or first.get("containerPort") != 8080
            ):
                yield f"{name}: the first port must be HTTP 8080"
            if any(port["containerPort"] == 8081 and port["name"] != "h2c" for port in fronted):
                yield f"{name}: the gRPC port must be named h2c to get its appProtocol"


def probes(documents: list[Document]) -> Iterator[str]:
    """`/v2/health/ready` never asks the model; only the model's path does. No grpc probe."""
    for service in services(documents):
        for name, container in containers(service):
            if "modelFormat" in container:
                continue
            port = int(flags(container)["--http_port"])
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = container.get(kind)
                if probe is None:
                    if kind != "startupProbe":
                        yield f"{name}: no {kind}"
                    continue
                if probe.get("httpGet", {}).get("port") != port:
                    yield f"{name}: {kind} must ask by HTTP on {port}"
            ready = container.get("readinessProbe", {}).get("httpGet", {}).get("path")
            if ready != f"/v1/models/{MODEL}":
                yield f"{name}: readiness must ask for the model, not {ready}"
            alive = container.get("livenessProbe", {}).get("httpGet", {}).get("path")
            if alive == ready:
                yield f"{name}: liveness must not depend on the model or the predictor behind"


def shutdown(documents: list[Document]) -> Iterator[str]:
    """The socket closes at SIGTERM: callers leave first, and the grace covers both drains."""
    for service in services(documents):
        if mode(service) != "Standard":
            continue
        for name, component in components(service):
            for container in component.get("containers", []):
                waits = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
                drains = 1 if flags(container).get("--enable_grpc") == "false" else 2
                needed = waits.get("seconds", 0) + drains * DRAIN_S
                if not waits:
                    yield f"{name}: no preStop"
                elif component.get("terminationGracePeriodSeconds", 30) < needed + 5:
                    yield f"{name}: the grace period must be {needed + 5} s or more"


def autoscaling(documents: list[Document]) -> Iterator[str]:
    """Each class takes its own fields and drops or refuses the others'."""
    for service in services(documents):
        chosen = service["metadata"].get("annotations", {}).get("serving.kserve.io/autoscalerClass")
        if chosen not in {None, "none", "hpa", "keda", "external"}:
            yield f"{chosen} is no autoscaler class"
        if mode(service) == "Standard" and chosen is None:
            yield "Standard mode makes an HPA unless the class is written"
        for name, component in components(service):
            if component.get("minReplicas", 1) < 1:
                yield f"{name}: an autoscaler's input never scales to zero"
            if component.get("maxReplicas", 1_000) < component.get("minReplicas", 1):
                yield f"{name}: maxReplicas is below minReplicas"
            if mode(service) == "Knative" and "deploymentStrategy" in component:
                yield f"{name}: deploymentStrategy is for Standard mode"
            yield from _class_fields(name, component, chosen)


def _class_fields(name: str, component: Document, chosen: str | None) -> Iterator[str]:
    metrics = component.get("autoScaling", {}).get("metrics", [])
    if chosen == "hpa":
        if component.get("scaleMetric") not in {"cpu", "memory"}:
            yield f"{name}: an HPA scales on cpu or memory"
        if not 1 <= component.get("scaleTarget", 80) <= 100:
            yield f"{name}: scaleTarget is a percentage"
        if "behavior" in component.get("autoScaling", {}):
            yield f"{name}: KServe drops autoScaling.behavior for an HPA"
    if chosen == "keda":
        if "scaleMetric" in component:
            yield f"{name}: scaleMetric is refused for KEDA"
        for metric in (metric["external"] for metric in metrics if metric["type"] == "External"):
            if not metric["metric"].get("query") or not metric["target"].get("value"):
                yield f"{name}: a KEDA metric needs query and target.value"


def scraping(documents: list[Document]) -> Iterator[str]:
    """KServe's scraping annotation writes queue-proxy's port, dead in Standard mode."""
    for service in services(documents):
        annotated = service["metadata"].get("annotations", {})
        if (
            mode(service) == "Standard"
            and "serving.kserve.io/enable-prometheus-scraping" in annotated
        ):
            yield "enable-prometheus-scraping points at a port that Standard mode does not open"


def canary(documents: list[Document]) -> Iterator[str]:
    """A percentage works in Knative mode, on one component; `spec.canary` meets no transformer."""
    for service in services(documents):
        shares = {
            name: component["canaryTrafficPercent"]
            for name, component in components(service)
            if "canaryTrafficPercent" in component
        }
        if shares and mode(service) != "Knative":
            yield "canaryTrafficPercent is silently ignored in Standard mode"
        if "transformer" in shares:
            yield "two splits pair any transformer with any predictor"
        if any(not 0 <= share <= 100 for share in shares.values()):
            yield "canaryTrafficPercent is a percentage"
        if shares and "STORAGE_URI" not in environment(
            service["spec"]["predictor"]["containers"][0]
        ):
            yield "a canary without its own storage URI is the same model twice"
        if "canary" in service["spec"]:
            yield "spec.canary: traffic through a transformer never reaches it"


def graph(documents: list[Document]) -> Iterator[str]:
    """A root, unique steps that exist, weights that make 100."""
    known = {service["metadata"]["name"] for service in services(documents)}
    for document in of_kind(documents, "InferenceGraph"):
        nodes = document["spec"]["nodes"]
        if "root" not in nodes:
            yield "a graph needs a node called root"
        for name, node in nodes.items():
            steps = node["steps"]
            if len({step["name"] for step in steps}) != len(steps):
                yield f"{name}: step names repeat"
            for step in steps:
                targets = {"serviceName", "serviceUrl", "nodeName"} & step.keys()
                if len(targets) != 1:
                    yield f"{name}/{step['name']}: exactly one target"
                if step.get("serviceName", next(iter(known))) not in known:
                    yield f"{name}/{step['name']}: no InferenceService of that name"
            if node["routerType"] == "Splitter" and sum(s.get("weight", 0) for s in steps) != 100:
                yield f"{name}: the weights must make 100"
        addresses = [_address(service) for service in services(documents)]
        if len(set(addresses)) != len(addresses):
            yield "a graph between the same model twice"


def _address(service: Document) -> str | None:
    container = service["spec"]["predictor"]["containers"][0]
    return environment(container).get("STORAGE_URI")


def operators_name(documents: list[Document]) -> Iterator[str]:
    """The name operators call: our Service in Standard mode, KServe's own in Knative mode."""
    modes = {mode(service) for service in services(documents)}
    aliases = [
        document
        for document in of_kind(documents, "Service")
        if document["metadata"]["name"] == "nimbusguard-dqn-model"
    ]
    if modes == {"Knative"} and aliases:
        yield "in Knative mode KServe makes the Service of that name itself"
    if "Standard" in modes and len(aliases) != 1:
        yield "in Standard mode nobody else makes the Service of that name"


RULES: tuple[Rule, ...] = (
    names_and_blocked_variables,
    storage,
    explicit_mode,
    arguments,
    collocation,
    ports,
    probes,
    shutdown,
    autoscaling,
    scraping,
    canary,
    graph,
    operators_name,
    hardening.knative_fields,
    hardening.restricted,
    hardening.selectors,
    hardening.images_and_secrets,
)


def complaints(documents: list[Document]) -> list[str]:
    """Everything that any rule has against these objects."""
    return [f"{rule.__name__}: {text}" for rule in RULES for text in rule(documents)]
