"""Who else scales a target: of two writers each undoes what the other did.

Every HorizontalPodAutoscaler is one. A KEDA ScaledObject scales by an HPA that it owns; it is
listed as well, because while it is paused, or just made, it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from autoscaler.kube import KubeApi
from autoscaler.policy_spec import Mode, ScalingPolicy
from nimbusguard.contract.errors import NotFound

Place = tuple[str, str, str]
"""Namespace, kind and name of a target."""
Writers = Mapping[Place, str]
"""Targets to whoever scales them."""


class _Kind(NamedTuple):
    root: str
    plural: str


_HPAS: Final = _Kind("/apis/autoscaling/v2", "horizontalpodautoscalers")
_SCALED_OBJECTS: Final = _Kind("/apis/keda.sh/v1alpha1", "scaledobjects")


async def read_writers(api: KubeApi, namespaces: tuple[str, ...] = ()) -> Writers:
    """All targets that somebody else scales.

    Args:
        api: The API server.
        namespaces: Where to look; everywhere if empty.

    Raises:
        Unavailable: The API server did not answer.
    """
    found: dict[Place, str] = {}
    for path in _paths(_SCALED_OBJECTS, namespaces):
        try:
            listing = await api.get(path)
        except NotFound:  # a cluster without KEDA
            break
        for item in listing.get("items", ()):
            found[_place(item)] = f"ScaledObject/{item['metadata']['name']}"
    for path in _paths(_HPAS, namespaces):
        for item in (await api.get(path)).get("items", ()):
            found[_place(item)] = _hpa_or_owner(item["metadata"])
    return found


def other_writer(writers: Writers, policy: ScalingPolicy) -> str | None:
    """Who else scales a policy's target; None if nobody does."""
    return writers.get(place_of(policy))


def conflict_of(
    policy: ScalingPolicy, writers: Writers | None, acting: Mapping[Place, ScalingPolicy]
) -> str | None:
    """Why a target is left to somebody else; a policy that does not act is nobody's rival.

    Args:
        policy: Whose target.
        writers: What `read_writers` found; None while it is not known.
        acting: Of the policies that act, the one that may scale each target.
    """
    if policy.spec.mode is not Mode.ACT:
        return None
    if writers is None:
        return "who else scales is not known yet: HorizontalPodAutoscalers were not listed"
    other = other_writer(writers, policy)
    first = acting.get(place_of(policy), policy)
    if other is None and first.uid != policy.uid:
        other = f"ScalingPolicy/{first.name}"
    if other is None:
        return None
    return f"{other} scales {policy.spec.target} too; remove one of the two"


def place_of(policy: ScalingPolicy) -> Place:
    """A policy's target."""
    return policy.namespace, policy.spec.target.kind, policy.spec.target.name


def _paths(kind: _Kind, namespaces: tuple[str, ...]) -> Iterator[str]:
    if not namespaces:
        yield f"{kind.root}/{kind.plural}"
    for namespace in namespaces:
        yield f"{kind.root}/namespaces/{namespace}/{kind.plural}"


def _place(item: Mapping[str, Any]) -> Place:
    target = item["spec"]["scaleTargetRef"]
    # KEDA's default where no kind is named; an HPA always names one.
    return item["metadata"]["namespace"], target.get("kind") or "Deployment", target["name"]


def _hpa_or_owner(metadata: Mapping[str, Any]) -> str:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("kind") == "ScaledObject":
            return f"ScaledObject/{owner['name']}"
    return f"HorizontalPodAutoscaler/{metadata['name']}"
