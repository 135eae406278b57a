"""Who else scales a target: of two writers each undoes what the other did.

Every HorizontalPodAutoscaler is one; a KEDA ScaledObject scales by an HPA that it owns, so the list
of HPAs shows both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autoscaler.kube import KubeApi
from autoscaler.policy_spec import ScalingPolicy

Writers = Mapping[tuple[str, str, str], str]
"""Namespace, kind and name of a target to whoever scales it."""
HPAS: Final = "/apis/autoscaling/v2/horizontalpodautoscalers"


async def read_writers(api: KubeApi, namespaces: tuple[str, ...] = ()) -> Writers:
    """All targets that an HPA scales.

    Args:
        api: The API server.
        namespaces: Where to look; everywhere if empty.

    Raises:
        Unavailable: The API server did not answer.
    """
    paths = [
        f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
        for namespace in namespaces
    ]
    found: dict[tuple[str, str, str], str] = {}
    for path in paths or [HPAS]:
        for item in (await api.get(path)).get("items", ()):
            target = item["spec"]["scaleTargetRef"]
            key = (item["metadata"]["namespace"], target["kind"], target["name"])
            found[key] = _writer(item["metadata"])
    return found


def other_writer(writers: Writers, policy: ScalingPolicy) -> str | None:
    """Who else scales a policy's target; None if nobody does."""
    target = policy.spec.target
    return writers.get((policy.namespace, target.kind, target.name))


def _writer(metadata: Mapping[str, Any]) -> str:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("kind") == "ScaledObject":
            return f"ScaledObject/{owner['name']}"
    return f"HorizontalPodAutoscaler/{metadata['name']}"
