"""Replicas of a target: read and written through its scale subresource, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from autoscaler.kube import KubeApi
from autoscaler.policy_spec import ScalingPolicy, Target
from nimbusguard.contract.errors import NotFound, Unavailable

_PLURALS: Final[Mapping[tuple[str, str], str]] = {
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
}
"""Kinds that need no discovery."""


class Scale(NamedTuple):
    """The scale subresource at one moment."""

    path: str
    desired: int
    """`spec.replicas`."""
    created: int
    """`status.replicas`: pods that exist, ready or not."""
    version: str
    """`metadata.resourceVersion`: whoever writes says which state it has seen."""


class Scaler:
    """Reads and writes the scale of targets."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._discovered: dict[tuple[str, str], str] = {}

    async def read(self, policy: ScalingPolicy) -> Scale:
        """The target's scale now.

        Raises:
            NotFound: There is no such target, or its kind cannot be scaled.
            Unavailable: The API server did not answer.
        """
        path = await self._path(policy.namespace, policy.spec.target)
        return _scale(path, await self._api.get(path))

    async def write(self, scale: Scale, replicas: int) -> Scale:
        """Ask for replicas, if nobody changed the target since `scale` was read.

        Raises:
            Conflict: Somebody did.
            NotFound: The target is gone.
            InvalidRequest: The API server refuses the number.
            Unavailable: It did not answer; whether it scaled shows at the next `read`.
        """
        body = {"metadata": {"resourceVersion": scale.version}, "spec": {"replicas": replicas}}
        return _scale(scale.path, await self._api.patch(scale.path, body))

    async def _path(self, namespace: str, target: Target) -> str:
        root = f"/apis/{target.api_version}" if "/" in target.api_version else "/api/v1"
        plural = await self._plural(root, target)
        return f"{root}/namespaces/{namespace}/{plural}/{target.name}/scale"

    async def _plural(self, root: str, target: Target) -> str:
        """The kind's name in paths; asked for once, and then known."""
        key = (target.api_version, target.kind)
        known = _PLURALS.get(key) or self._discovered.get(key)
        if known is not None:
            return known
        listing = await self._api.get(root)
        for resource in listing.get("resources", ()):
            name, _, part = resource["name"].partition("/")
            if resource["kind"] == target.kind and not part:
                self._discovered[key] = name
                return str(name)
        message = f"target: expected a kind of {target.api_version}, got {target.kind}"
        raise NotFound(message)


def _scale(path: str, document: Mapping[str, Any]) -> Scale:
    spec, status = document.get("spec") or {}, document.get("status") or {}
    # The API server leaves out `replicas` where it is 0.
    desired, created = spec.get("replicas", 0), status.get("replicas", 0)
    version = (document.get("metadata") or {}).get("resourceVersion")
    if not isinstance(desired, int) or not isinstance(created, int) or not version:
        message = f"{path}: expected spec.replicas and metadata.resourceVersion, got {document}"
        raise Unavailable(message)
    return Scale(path, desired, created, version)
