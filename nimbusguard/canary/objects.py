"""Reading the objects of a roll-out, and the operations that change one value of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nimbusguard.contract.errors import InvalidRequest, NotFound

STABLE: Final = "stable"
CANARY: Final = "canary"
STORAGE_URI: Final = "STORAGE_URI"

Object = Mapping[str, Any]
Operation = dict[str, Any]


def version_of(uri: str | None) -> str | None:
    """The version that a storage URI ends in."""
    last = uri.rstrip("/").rpartition("/")[2] if uri else ""
    return last if last.isdecimal() and last != "0" else None


def version_operations(service: Object, version: str) -> list[Operation]:
    """Point the predictor's storage URI to another version; none if it is there already."""
    if version_of(f"/{version}") is None:
        message = f"version: expected a number from 1 on, got {version!r}"
        raise InvalidRequest(message)
    path, uri = uri_location(service)
    wanted = f"{uri.rstrip('/').rpartition('/')[0]}/{version}"
    if wanted == uri:
        return []
    return [
        {"op": "test", "path": path, "value": uri},
        {"op": "replace", "path": path, "value": wanted},
    ]


def storage_uri(service: Object) -> str | None:
    """The predictor's storage URI, if it ends in a version."""
    try:
        return uri_location(service)[1]
    except InvalidRequest:
        return None


def uri_location(service: Object) -> tuple[str, str]:
    """The path and the value of the predictor's storage URI.

    Raises:
        InvalidRequest: There is none, or it ends in no version.
    """
    predictor = service["spec"]["predictor"]
    found = predictor.get("model", {}).get("storageUri")
    path = "/spec/predictor/model/storageUri"
    for container_index, container in enumerate(predictor.get("containers", [])):
        for index, entry in enumerate(container.get("env", [])):
            if entry["name"] == STORAGE_URI:
                found = entry.get("value")
                path = f"/spec/predictor/containers/{container_index}/env/{index}/value"
    if not found or version_of(found) is None:
        message = (
            f"{name_of(service)}: expected a {STORAGE_URI} that ends in a version, got {found!r}; "
            "a model inside the image cannot be told from another"
        )
        raise InvalidRequest(message)
    return path, found


def set_value(path: str, parent: Object, key: str, value: int) -> list[Operation]:
    """Replace a value that was seen, or add one that was not there."""
    if key not in parent:
        return [{"op": "add", "path": path, "value": value}]
    return [
        {"op": "test", "path": path, "value": parent[key]},
        {"op": "replace", "path": path, "value": value},
    ]


def steps_of(graph: Object) -> dict[str, tuple[int, Mapping[str, Any]]]:
    """The splitter's steps by name, with their places.

    Raises:
        NotFound: The root has no steps of these names.
    """
    steps: Sequence[Mapping[str, Any]] = graph["spec"]["nodes"]["root"]["steps"]
    found = {step.get("name", ""): (index, step) for index, step in enumerate(steps)}
    if not {STABLE, CANARY} <= found.keys():
        message = (
            f"{name_of(graph)}: expected steps called {STABLE} and {CANARY} at its root, "
            f"got {sorted(found)}"
        )
        raise NotFound(message)
    return found


def deployment_mode(service: Object) -> str | None:
    """The deployment mode that is written, if one is."""
    value = service["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
    return None if value is None else str(value)


def name_of(target: Object) -> str:
    """The object's name."""
    return str(target["metadata"]["name"])
