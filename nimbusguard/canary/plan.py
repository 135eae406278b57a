"""What each step of a roll-out changes in the cluster, as JSON patches. Pure.

Two kinds, and why there are two, is in `docs/deploy.md`:

* traffic: one InferenceService in Knative mode; `canaryTrafficPercent` on its predictor splits
  requests between the revision that was rolled out and the latest. KServe's meaning: no percentage
  promotes, 0 rolls back;
* graph: two InferenceServices behind an InferenceGraph whose splitter has a step `stable` and a
  step `canary`.

Every patch first tests what it was computed from: if somebody changed the object meanwhile, the API
server refuses the whole patch instead of mixing two intentions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nimbusguard.canary.objects import (
    CANARY,
    STABLE,
    STORAGE_URI,
    Object,
    Operation,
    deployment_mode,
    name_of,
    set_value,
    steps_of,
    storage_uri,
    version_of,
    version_operations,
)
from nimbusguard.contract.errors import InvalidRequest


class Kind(StrEnum):
    """How requests are split."""

    TRAFFIC = "traffic"
    GRAPH = "graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One JSON patch (RFC 6902) to one object.

    Attributes:
        resource: `inferenceservices` or `inferencegraphs`.
        name: Of the object.
        operations: In order; all or none are applied.
    """

    resource: str
    name: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Where a roll-out stands.

    Attributes:
        kind: How requests are split.
        stable_version: Model version that serves.
        canary_version: Model version on trial; None if there is none.
        percent: Share of requests that go to it.
    """

    kind: Kind
    stable_version: str | None
    canary_version: str | None
    percent: int


# Traffic


def traffic_state(service: Object) -> Rollout:
    """Where a traffic canary stands.

    The object holds the newest version's address alone; which one the rest of the requests go to is
    known to the revision that KServe rolled out before, so it is left open here.
    """
    predictor = service["spec"]["predictor"]
    percent = predictor.get("canaryTrafficPercent")
    version = version_of(storage_uri(service))
    if percent is None:
        return Rollout(kind=Kind.TRAFFIC, stable_version=version, canary_version=None, percent=0)
    return Rollout(
        kind=Kind.TRAFFIC, stable_version=None, canary_version=version, percent=int(percent)
    )


def start_traffic(service: Object, version: str, percent: int) -> list[Patch]:
    """Give a share of the predictor's requests to a version, or change the share.

    Raises:
        InvalidRequest: The mode is not Knative, or the percentage is none.
    """
    _require_percent(percent)
    if deployment_mode(service) != "Knative":
        message = (
            f"{name_of(service)}: expected deploymentMode Knative, got {deployment_mode(service)}: "
            "canaryTrafficPercent is ignored elsewhere; use --kind graph"
        )
        raise InvalidRequest(message)
    predictor = service["spec"]["predictor"]
    operations = [
        *version_operations(service, version),
        *set_value(
            "/spec/predictor/canaryTrafficPercent", predictor, "canaryTrafficPercent", percent
        ),
    ]
    return [_patch("inferenceservices", service, operations)]


def promote_traffic(service: Object) -> list[Patch]:
    """All requests to the newest version: the percentage goes.

    Raises:
        InvalidRequest: No canary is under way, or it was rolled back: without its 0 the rejected
            version would get everything.
    """
    percent = service["spec"]["predictor"].get("canaryTrafficPercent")
    _require_canary(service, percent or None)
    path = "/spec/predictor/canaryTrafficPercent"
    operations = [
        {"op": "test", "path": path, "value": percent},
        {"op": "remove", "path": path},
    ]
    return [_patch("inferenceservices", service, operations)]


def rollback_traffic(service: Object) -> list[Patch]:
    """No request to the newest version: 0 pins all to the one rolled out before.

    Raises:
        InvalidRequest: No canary is under way.
    """
    predictor = service["spec"]["predictor"]
    _require_canary(service, predictor.get("canaryTrafficPercent"))
    path = "/spec/predictor/canaryTrafficPercent"
    operations = set_value(path, predictor, "canaryTrafficPercent", 0)
    return [_patch("inferenceservices", service, operations)]


# Graph


def graph_state(graph: Object, stable: Object, canary: Object) -> Rollout:
    """Where a graph canary stands."""
    percent = steps_of(graph)[CANARY][1]["weight"]
    return Rollout(
        kind=Kind.GRAPH,
        stable_version=version_of(storage_uri(stable)),
        canary_version=version_of(storage_uri(canary)) if percent else None,
        percent=int(percent),
    )


def start_graph(graph: Object, canary: Object, version: str, percent: int) -> list[Patch]:
    """Put a version behind the canary step and give it a share, or change the share.

    The version goes first: until its pods are ready the old ones answer, and a step without ready
    pods would answer with errors.
    """
    _require_percent(percent)
    operations = version_operations(canary, version)
    patches = [_patch("inferenceservices", canary, operations)] if operations else []
    return [*patches, weigh_graph(graph, percent)]


def promote_graph(graph: Object, stable: Object, canary: Object) -> list[Patch]:
    """The canary's version becomes the stable one's, then all requests go there.

    Between the two patches the stable pods must have rolled; `nimbusguard canary promote` waits.

    Raises:
        InvalidRequest: No canary is under way.
    """
    _require_canary(graph, steps_of(graph)[CANARY][1]["weight"] or None)
    version = version_of(storage_uri(canary))
    if version is None:
        message = f"{name_of(canary)}: expected a {STORAGE_URI} that ends in a version"
        raise InvalidRequest(message)
    operations = version_operations(stable, version)
    patches = [_patch("inferenceservices", stable, operations)] if operations else []
    return [*patches, weigh_graph(graph, 0)]


def rollback_graph(graph: Object) -> list[Patch]:
    """All requests to the stable InferenceService.

    Raises:
        InvalidRequest: No canary is under way.
    """
    _require_canary(graph, steps_of(graph)[CANARY][1]["weight"] or None)
    return [weigh_graph(graph, 0)]


def weigh_graph(graph: Object, percent: int) -> Patch:
    """The splitter's weights for a share of the canary."""
    operations: list[Operation] = []
    for name, weight in ((STABLE, 100 - percent), (CANARY, percent)):
        index, step = steps_of(graph)[name]
        path = f"/spec/nodes/root/steps/{index}"
        operations += [
            {"op": "test", "path": f"{path}/name", "value": name},
            {"op": "test", "path": f"{path}/weight", "value": step["weight"]},
            {"op": "replace", "path": f"{path}/weight", "value": weight},
        ]
    return _patch("inferencegraphs", graph, operations)


def _patch(resource: str, target: Object, operations: Sequence[Operation]) -> Patch:
    return Patch(resource=resource, name=name_of(target), operations=tuple(operations))


def _require_percent(percent: int) -> None:
    if not 1 <= percent <= 100:
        message = f"percent: expected a whole number from 1 to 100, got {percent}"
        raise InvalidRequest(message)


def _require_canary(target: Object, percent: int | None) -> None:
    if percent is None:
        message = (
            f"{name_of(target)}: no canary is under way; begin with `nimbusguard canary start`"
        )
        raise InvalidRequest(message)
