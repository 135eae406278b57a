"""The same objects from rendered YAML, so that a roll-out can be planned without a cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

from nimbusguard.canary.objects import Object
from nimbusguard.canary.plan import Patch
from nimbusguard.contract.errors import InvalidRequest, NotFound

_RESOURCES: Final = {"InferenceService": "inferenceservices", "InferenceGraph": "inferencegraphs"}


class RenderedManifests:
    """What `kubectl kustomize` printed, in place of a cluster; it can be read and not changed."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Keep the objects that a roll-out is about."""
        self._objects = {
            (_RESOURCES[document["kind"]], document["metadata"]["name"]): document
            for document in documents
            if document and document.get("kind") in _RESOURCES
        }

    @classmethod
    def from_text(cls, text: str) -> RenderedManifests:
        """Read YAML.

        Raises:
            InvalidRequest: PyYAML is not installed, or the text is no YAML.
        """
        try:
            import yaml
        except ImportError as error:
            message = "PyYAML is not installed; pip install 'nimbusguard[serve]'"
            raise InvalidRequest(message) from error
        try:
            return cls(list(yaml.safe_load_all(text)))
        except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
            message = f"manifests: expected rendered Kubernetes objects, got {error}"
            raise InvalidRequest(message) from error

    def read(self, resource: str, name: str) -> Object:
        """See `kubernetes.Cluster.read`."""
        try:
            return copy.deepcopy(self._objects[resource, name])
        except KeyError:
            known = ", ".join(f"{kind}/{known}" for kind, known in sorted(self._objects))
            message = f"manifests: no {resource}/{name}; there are {known or 'none'}"
            raise NotFound(message) from None

    def apply(self, patch: Patch) -> None:
        """Refused: a file is not where a roll-out happens.

        Raises:
            InvalidRequest: Always.
        """
        message = f"manifests: cannot patch {patch.resource}/{patch.name} in a file; add --dry-run"
        raise InvalidRequest(message)
