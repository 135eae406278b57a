"""A stand-in for the API server, as much of it as kubectl needs for the targets `kubeflow-*`.

Discovery, and enough OpenAPI that kubectl leaves validation to the server; objects that are created
only if their schema has nothing against them; conditions that become true while somebody watches;
pods with logs; and the proxy to a Service, which leads to a server that the test has started.
"""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.manifests.rendering import Document
from tests.manifests.schemas import problems
from tests.standin.background import BackgroundServer


class Kind(NamedTuple):
    """One kind that the server knows."""

    group_version: str
    plural: str
    name: str
    namespaced: bool = True

    @property
    def root(self) -> str:
        """Path of its group and version."""
        return ("/apis/" if "/" in self.group_version else "/api/") + self.group_version


KINDS = (
    Kind("v1", "namespaces", "Namespace", namespaced=False),
    Kind("v1", "serviceaccounts", "ServiceAccount"),
    Kind("v1", "services", "Service"),
    Kind("v1", "pods", "Pod"),
    Kind("serving.kserve.io/v1beta1", "inferenceservices", "InferenceService"),
    Kind("serving.kserve.io/v1alpha1", "inferencegraphs", "InferenceGraph"),
)
CONDITIONS = ("PredictorReady", "TransformerReady", "Ready")


@dataclass
class ApiServer(BackgroundServer):
    """The objects and the log of requests.

    Attributes:
        upstream: Base URL that every Service's proxy leads to.
        objects: By plural and name.
        requests: Method and path of each that changed or proxied something.
    """

    upstream: str
    objects: dict[tuple[str, str], Document] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        handler = type("Handler", (_Handler,), {"api": self})
        self.listen(handler)

    def create(self, kind: Kind, document: Document) -> tuple[int, Document]:
        """Take an object that its schema has nothing against, and start its pods."""
        metadata = document["metadata"]
        # kubectl's own note of what was applied is no field of ours.
        metadata.get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", "")
        if found := problems(document):
            return _failure(400, "; ".join(found))
        metadata |= {"uid": metadata["name"], "creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata["resourceVersion"] = "1"
        self.objects[kind.plural, metadata["name"]] = document
        if kind.name == "InferenceService":
            for component in ("predictor", "transformer"):
                self._run(document, component)
        return 201, document

    def become_ready(self, name: str) -> Document:
        """What the controller reports when both components run."""
        service = self.objects["inferenceservices", name]
        states = [{"type": condition, "status": "True"} for condition in CONDITIONS]
        address = f"http://{name}-transformer.{service['metadata']['namespace']}.svc.cluster.local"
        service["status"] = {"conditions": states, "address": {"url": address}}
        service["metadata"]["resourceVersion"] = "2"
        return service

    def _run(self, service: Document, component: str) -> None:
        name = f"{service['metadata']['name']}-{component}"
        labels = {
            "app": f"isvc.{name}",
            "serving.kserve.io/inferenceservice": service["metadata"]["name"],
        }
        self.objects["pods", name] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": service["metadata"]["namespace"],
                "labels": labels,
            },
            "spec": {"containers": [{"name": "kserve-container", "image": "there"}]},
            "status": {"phase": "Running"},
        }


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        options = {key: values[0] for key, values in parse_qs(query).items()}
        if (discovered := _discovery(path)) is not None:
            self._answer(200, discovered)
        elif path.endswith("/log"):
            self._send(200, "text/plain", f"the log of {path.split('/')[-2]}\n".encode())
        else:
            self._objects(path, options)

    def do_POST(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        self.api.requests.append(("POST", path))
        if "/proxy/" in path:
            target = self.api.upstream + "/" + path.partition("/proxy/")[2]
            with urllib.request.urlopen(target, data=body, timeout=10) as answer:  # noqa: S310
                self._send(answer.status, "application/json", answer.read())
            return
        kind, _ = _located(path)
        self._answer(*self.api.create(kind, json.loads(body)))

    def _body(self) -> bytes:
        """The request's body; kubectl sends a file in chunks."""
        if "content-length" in self.headers:
            return self.rfile.read(int(self.headers["content-length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base
        pass

    def _objects(self, path: str, options: dict[str, str]) -> None:
        kind, name = _located(path)
        wanted = name or options.get("fieldSelector", "").removeprefix("metadata.name=")
        label, _, value = options.get("labelSelector", "").partition("=")
        found = [
            document
            for (plural, own), document in self.api.objects.items()
            if plural == kind.plural
            and wanted in ("", own)
            and document["metadata"].get("labels", {}).get(label, "") == value
        ]
        if options.get("watch"):
            event = {"type": "MODIFIED", "object": self.api.become_ready(wanted)}
            self._send(200, "application/json", json.dumps(event).encode() + b"\n")
        elif not name:
            kept = {"apiVersion": kind.group_version, "kind": f"{kind.name}List"}
            self._answer(200, {**kept, "metadata": {"resourceVersion": "1"}, "items": found})
        elif found:
            self._answer(200, found[0])
        else:
            self._answer(*_failure(404, f'{kind.plural} "{name}" not found', "NotFound"))

    def _answer(self, status: int, document: Document) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _located(path: str) -> tuple[Kind, str]:
    """The kind that a path is about, and the object's name if it has one."""
    for kind in KINDS:
        if path.startswith(f"{kind.root}/"):
            parts = path.removeprefix(f"{kind.root}/").split("/")
            if parts[0] == "namespaces" and len(parts) > 2:
                parts = parts[2:]
            if parts[0] == kind.plural:
                return kind, (*parts, "")[1]
    message = f"no such path: {path}"
    raise AssertionError(message)


def _discovery(path: str) -> Document | None:
    """What kubectl asks before it does anything."""
    groups = sorted({kind.group_version for kind in KINDS if "/" in kind.group_version})
    fixed: dict[str, Document] = {
        "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups(groups)},
        "/openapi/v3": {
            "paths": {
                root.lstrip("/"): {"serverRelativeURL": f"/openapi/v3{root}"} for root in _roots()
            }
        },
    }
    if path in fixed:
        return fixed[path]
    if path in _roots():
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
            "resources": [_resource(kind) for kind in KINDS if kind.root == path],
        }
    if path.startswith("/openapi/v3/"):
        return _open_api(path.removeprefix("/openapi/v3"))
    return None


def _roots() -> set[str]:
    return {kind.root for kind in KINDS}


def _groups(versions: list[str]) -> list[Document]:
    by_group: dict[str, list[Document]] = {}
    for name in versions:
        group, version = name.split("/")
        by_group.setdefault(group, []).append({"groupVersion": name, "version": version})
    return [
        {"name": group, "versions": found, "preferredVersion": found[-1]}
        for group, found in by_group.items()
    ]


def _resource(kind: Kind) -> Document:
    return {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": ["create", "get", "list", "patch", "watch"],
    }


def _open_api(root: str) -> Document:
    """That the server validates fields itself is all that kubectl wants to know."""
    paths: dict[str, Any] = {}
    for kind in KINDS:
        if kind.root == root:
            group, _, version = kind.group_version.rpartition("/")
            paths[f"{root}/{kind.plural}/{{name}}"] = {
                "patch": {
                    "parameters": [{"name": "fieldValidation", "in": "query"}],
                    "x-kubernetes-group-version-kind": {
                        "group": group,
                        "version": version,
                        "kind": kind.name,
                    },
                }
            }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "1"}, "paths": paths}


def _failure(status: int, message: str, reason: str = "Invalid") -> tuple[int, Document]:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason}
    return status, {**body, "message": message, "code": status}
