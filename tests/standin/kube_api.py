"""A stand-in for the Kubernetes API server: as much of it as the operator uses, over real HTTP.

Objects with resource versions and optimistic concurrency, list and watch, merge patches, the status
and scale subresources, leases, events, discovery. A test can make it fail, and reads from its log
which calls were made.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

Object = dict[str, Any]


class Kind(NamedTuple):
    group: str
    version: str
    plural: str
    kind: str
    subresources: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


# Only so that they can be found: the framework looks for them, and then leaves them alone.
FOUND = (
    Kind("", "v1", "namespaces", "Namespace"),
    Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
)
KINDS = (
    Kind("nimbusguard.io", "v1alpha1", "scalingpolicies", "ScalingPolicy", ("status",)),
    Kind("apps", "v1", "deployments", "Deployment", ("scale",)),
    Kind("apps", "v1", "statefulsets", "StatefulSet", ("scale",)),
    Kind("example.io", "v1", "gameservers", "GameServer", ("scale",)),
    Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    Kind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject"),
    Kind("coordination.k8s.io", "v1", "leases", "Lease"),
    Kind("", "v1", "events", "Event"),
)


@dataclass(frozen=True)
class Call:
    """One request, in the words of RBAC."""

    verb: str
    group: str
    resource: str
    """With the subresource: `deployments/scale`."""
    namespace: str
    name: str
    caller: str = ""
    """Who called: the first part of a path that begins with `/as/<caller>`."""


class Scaling(NamedTuple):
    """One change of replicas through a scale subresource."""

    at_s: float
    """On the monotonic clock."""
    caller: str
    name: str
    before: int
    after: int


@dataclass
class Fault:
    """What goes wrong, for calls that it matches."""

    matches: Callable[[Call], bool]
    status: int
    headers: dict[str, str] = field(default_factory=dict)


class StandIn:
    """The API server's state and its HTTP."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[tuple[str, str], Object]] = {
            (kind.group, kind.plural): {} for kind in KINDS
        }
        self.calls: list[Call] = []
        self.scalings: list[Scaling] = []
        self.faults: list[Fault] = []
        self._versions = itertools.count(1)
        self._history: list[tuple[int, Kind, Object]] = []
        self._watchers: list[tuple[Kind, str, asyncio.Queue[Object | None]]] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    # --- what a test does -------------------------------------------------------------------

    def put(self, group: str, plural: str, body: Object) -> Object:
        """Create or replace an object, as `kubectl apply` would."""
        kind = _kind(group, plural)
        metadata = body["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        old = self.objects[group, plural].get(key)
        known = old["metadata"] if old else {"uid": f"uid-{plural}-{next(self._versions)}"}
        generation = known.get("generation", 0)
        if old is None or old.get("spec") != body.get("spec"):
            generation += 1
        body = {
            "apiVersion": f"{group}/{kind.version}" if group else kind.version,
            "kind": kind.kind,
            **copy.deepcopy(body),
        }
        body["metadata"] |= {"uid": known["uid"], "generation": generation}
        if old is not None:
            body.setdefault("status", old.get("status", {}))
        return self._store(kind, key, body, "MODIFIED" if old else "ADDED")

    def delete(self, group: str, plural: str, namespace: str, name: str) -> None:
        kind = _kind(group, plural)
        body = self.objects[group, plural].pop((namespace, name))
        self._notify(kind, "DELETED", body)

    def deployment(self, name: str, replicas: int, namespace: str = "shop") -> None:
        """A Deployment whose pods are all there."""
        body = {
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"replicas": replicas},
            "status": {"replicas": replicas},
        }
        self.put("apps", "deployments", body)

    def replicas(self, name: str, namespace: str = "shop") -> int:
        return self._replicas(_kind("apps", "deployments"), (namespace, name))

    def policy(self, name: str, namespace: str = "shop", **spec: Any) -> Object:
        """A ScalingPolicy for the Deployment of the same name."""
        annotations = spec.pop("annotations", {})
        created = spec.pop("created", "2026-01-01T00:00:00Z")
        body = {
            "metadata": {
                "namespace": namespace,
                "name": name,
                "annotations": annotations,
                "creationTimestamp": created,
            },
            "spec": {"target": {"name": name}, **spec},
        }
        return self.put("nimbusguard.io", "scalingpolicies", body)

    def status(self, name: str, namespace: str = "shop") -> Object:
        found: Object = self.objects["nimbusguard.io", "scalingpolicies"][namespace, name].get(
            "status", {}
        )
        return found

    def condition(self, name: str, kind: str, namespace: str = "shop") -> Object:
        conditions = self.status(name, namespace).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def events(self, name: str) -> list[tuple[str, str]]:
        """Type and reason of the events of an object, oldest first."""
        return [
            (event["type"], event["reason"])
            for event in self.objects["", "events"].values()
            if event["involvedObject"]["name"] == name
        ]

    def drop_watches(self) -> None:
        """Break every watch, as a restarting API server does."""
        for _, _, queue in self._watchers:
            queue.put_nowait(None)

    # --- HTTP ---------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/as/{caller}/{path:.*}", self._handle)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.drop_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = f"/{request.match_info['path']}"
        discovered = _discovery(path)
        if discovered is not None:
            return web.json_response(discovered)
        for kind in KINDS:
            if path.startswith(f"{kind.root}/"):
                parts = path[len(kind.root) + 1 :].split("/")
                namespace = ""
                if parts[0] == "namespaces" and len(parts) > 2:
                    namespace, parts = parts[1], parts[2:]
                if parts[0] == kind.plural:
                    return await self._serve(request, kind, namespace, parts[1:])
        return _failure(404, f"no such path {path}")

    async def _serve(
        self, request: web.Request, kind: Kind, namespace: str, parts: list[str]
    ) -> web.StreamResponse:
        name, subresource = (*parts, "", "")[:2]
        watching = request.query.get("watch") in ("true", "1")
        verbs = {"GET": "get", "PATCH": "patch", "POST": "create", "PUT": "update"}
        verb = verbs.get(request.method, request.method.lower())
        if verb == "get" and not name:
            verb = "watch" if watching else "list"
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        caller = request.match_info.get("caller", "")
        call = Call(verb, kind.group, resource, namespace, name, caller)
        self.calls.append(call)
        for fault in self.faults:
            if fault.matches(call):
                return _failure(fault.status, "made to fail", fault.headers)
        if verb == "watch":
            return await self._watch(request, kind, namespace)
        if verb == "list":
            return self._list(kind, namespace)
        if verb == "create":
            return self._create(kind, namespace, await request.json())
        body = self.objects[kind.group, kind.plural].get((namespace, name))
        if body is None:
            return _failure(404, f'{kind.plural} "{name}" not found')
        if verb == "get":
            return web.json_response(_scale(body) if subresource == "scale" else body)
        answer = self._patch(kind, (namespace, name), body, subresource, await request.json())
        if subresource == "scale" and answer.status == 200:
            before, after = body["spec"]["replicas"], self._replicas(kind, (namespace, name))
            self.scalings.append(Scaling(time.monotonic(), caller, name, before, after))
        return answer

    def _list(self, kind: Kind, namespace: str) -> web.Response:
        items = [
            body
            for (own, _), body in self.objects[kind.group, kind.plural].items()
            if namespace in ("", own)
        ]
        version = str(next(self._versions))
        return web.json_response(
            {
                "kind": f"{kind.kind}List",
                "apiVersion": f"{kind.group}/{kind.version}" if kind.group else kind.version,
                "metadata": {"resourceVersion": version},
                "items": items,
            }
        )

    async def _watch(self, request: web.Request, kind: Kind, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        queue: asyncio.Queue[Object | None] = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or 0)
        for version, changed, event in self._history:
            own = event["object"]["metadata"].get("namespace", "")
            if since and version > since and changed == kind and namespace in ("", own):
                queue.put_nowait(event)
        watcher = (kind, namespace, queue)
        self._watchers.append(watcher)
        try:
            while (event := await queue.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._watchers.remove(watcher)
        return response

    def _replicas(self, kind: Kind, key: tuple[str, str]) -> int:
        found: int = self.objects[kind.group, kind.plural][key]["spec"]["replicas"]
        return found

    def _create(self, kind: Kind, namespace: str, body: Object) -> web.Response:
        metadata = body["metadata"]
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._versions)}"
        key = (namespace, metadata["name"])
        if key in self.objects[kind.group, kind.plural]:
            return _failure(409, "already exists")
        metadata["uid"] = f"uid-{kind.plural}-{next(self._versions)}"
        return web.json_response(self._store(kind, key, body, "ADDED"), status=201)

    def _patch(
        self, kind: Kind, key: tuple[str, str], body: Object, subresource: str, patch: Object
    ) -> web.Response:
        asked = (patch.get("metadata") or {}).get("resourceVersion")
        if asked is not None and asked != body["metadata"]["resourceVersion"]:
            return _failure(409, "the object has been modified")
        changed = copy.deepcopy(body)
        if subresource == "status":
            changed["status"] = _merged(changed.get("status", {}), patch.get("status", {}))
        elif subresource == "scale":
            changed["spec"]["replicas"] = patch["spec"]["replicas"]
            changed["metadata"]["generation"] = changed["metadata"].get("generation", 0) + 1
        else:
            changed = _merged(changed, patch)
        stored = self._store(kind, key, changed, "MODIFIED")
        return web.json_response(_scale(stored) if subresource == "scale" else stored)

    def _store(self, kind: Kind, key: tuple[str, str], body: Object, change: str) -> Object:
        body["metadata"]["namespace"] = key[0]
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[kind.group, kind.plural][key] = body
        self._notify(kind, change, body)
        return body

    def _notify(self, kind: Kind, change: str, body: Object) -> None:
        event = {"type": change, "object": copy.deepcopy(body)}
        self._history.append((next(self._versions), kind, event))
        for watched, namespace, queue in self._watchers:
            if watched == kind and namespace in ("", body["metadata"].get("namespace", "")):
                queue.put_nowait(event)


def _kind(group: str, plural: str) -> Kind:
    return next(kind for kind in KINDS if (kind.group, kind.plural) == (group, plural))


def _scale(body: Object) -> Object:
    metadata = body["metadata"]
    kept = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")}
    # As the real one, which leaves out zeroes.
    spec = {"replicas": body["spec"]["replicas"]} if body["spec"]["replicas"] else {}
    status = {"replicas": body.get("status", {}).get("replicas", 0)}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": kept,
        "spec": spec,
        "status": status,
    }


def _merged(old: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _failure(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
    return web.json_response(body | {"code": status}, status=status, headers=headers)


def _discovery(path: str) -> Object | None:
    if path == "/version":
        return {"major": "1", "minor": "32"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = sorted({(kind.group, kind.version) for kind in (*KINDS, *FOUND) if kind.group})
        return {"kind": "APIGroupList", "groups": [_group(*group) for group in groups]}
    for kind in (*KINDS, *FOUND):
        if path == kind.root:
            return {"kind": "APIResourceList", "resources": list(_resources(kind.root))}
    return None


def _group(group: str, version: str) -> Object:
    preferred = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [preferred], "preferredVersion": preferred}


def _resources(root: str) -> Iterator[Object]:
    for kind in (*KINDS, *FOUND):
        if kind.root != root:
            continue
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        yield {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": True,
            "kind": kind.kind,
            "verbs": verbs,
        }
        for subresource in kind.subresources:
            yield {
                "name": f"{kind.plural}/{subresource}",
                "singularName": "",
                "namespaced": True,
                "kind": "Scale" if subresource == "scale" else kind.kind,
                "verbs": ["get", "patch", "update"],
            }
