"""The custom resources of a roll-out in a real cluster, through the official client.

The client comes with the servers' extra and not with the base install, so it is imported when a
cluster is asked for. Its objects for custom resources are plain dictionaries; nothing past this
module sees one of its classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from nimbusguard.canary.objects import Object
from nimbusguard.canary.plan import Patch
from nimbusguard.contract.errors import InvalidRequest, NotFound, Unavailable

GROUP: Final = "serving.kserve.io"
VERSIONS: Final = {"inferenceservices": "v1beta1", "inferencegraphs": "v1alpha1"}
_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 2.0


class Cluster(Protocol):
    """Reads and changes the objects of one namespace."""

    def read(self, resource: str, name: str) -> Object:
        """One object.

        Raises:
            NotFound: There is none of that name.
            Unavailable: The API server did not answer.
        """

    def apply(self, patch: Patch) -> None:
        """Apply a patch whole.

        Raises:
            InvalidRequest: The object changed since it was read, or the API server refused it.
            NotFound: There is no such object.
            Unavailable: The API server did not answer.
        """


class KubernetesCluster:
    """A namespace of the cluster that the kubeconfig, or the pod's own account, names."""

    def __init__(self, namespace: str, context: str | None = None) -> None:
        """Nothing is asked yet.

        Raises:
            InvalidRequest: The client is not installed, or there is no configuration.
        """
        try:
            from kubernetes import client, config
            from kubernetes.config.config_exception import ConfigException
        except ImportError as error:
            message = "the Kubernetes client is not installed; pip install 'nimbusguard[serve]'"
            raise InvalidRequest(message) from error
        try:
            # `config.load_config` prints to standard output and takes no context in a pod.
            config.load_kube_config(context=context)
        except ConfigException as absent:
            try:
                config.load_incluster_config()
            except ConfigException as error:
                message = f"no cluster: {absent} No service account either: {error}"
                raise InvalidRequest(message) from error
        self._api = client.CustomObjectsApi()
        # Left to itself, the client of version 37 sends a list as a merge patch, which replaces the
        # whole object by it or is refused. A default header means the same in all its versions.
        patching = client.ApiClient()
        patching.set_default_header("Content-Type", "application/json-patch+json")
        self._patching = client.CustomObjectsApi(patching)
        self._failed = client.ApiException
        self._namespace = namespace

    def read(self, resource: str, name: str) -> Object:
        """See `Cluster.read`."""
        found: dict[str, Any] = self._call(resource, name, self._api.get_namespaced_custom_object)
        return found

    def apply(self, patch: Patch) -> None:
        """See `Cluster.apply`."""
        method = self._patching.patch_namespaced_custom_object
        self._call(patch.resource, patch.name, method, body=list(patch.operations))

    def _call(self, resource: str, name: str, method: Callable[..., Any], **others: Any) -> Any:
        from urllib3.exceptions import HTTPError

        try:
            return method(
                GROUP,
                VERSIONS[resource],
                self._namespace,
                resource,
                name,
                _request_timeout=_TIMEOUT_S,
                **others,
            )
        except self._failed as error:
            raise _told(error.status, f"{resource}/{name}", error) from error
        except HTTPError as error:
            message = f"Kubernetes: expected an answer about {resource}/{name}, got {error}"
            raise Unavailable(message) from error


def wait_until_rolled(
    cluster: Cluster,
    name: str,
    *,
    within_s: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until both components of an InferenceService are ready at its newest generation.

    `Ready` alone would pass with a broken transformer: KServe leaves it out of that condition.

    Raises:
        Unavailable: They were not, in time.
    """
    ends = clock() + within_s
    while True:
        found = cluster.read("inferenceservices", name)
        if is_rolled(found):
            return
        if clock() >= ends:
            message = f"{name}: expected every component ready within {within_s:g} s; {_why(found)}"
            raise Unavailable(message)
        sleep(_POLL_S)


def is_rolled(service: Object) -> bool:
    """Whether the controller has seen the newest spec and every component is ready with it."""
    status = service.get("status", {})
    generation = service["metadata"].get("generation")
    return status.get("observedGeneration") == generation and not _unready(service)


def _unready(service: Object) -> list[str]:
    wanted = ["Ready", "PredictorReady"]
    wanted += ["TransformerReady"] if "transformer" in service["spec"] else []
    states = {
        condition["type"]: condition["status"]
        for condition in service.get("status", {}).get("conditions", [])
    }
    return [name for name in wanted if states.get(name) != "True"]


def _why(service: Object) -> str:
    unready = _unready(service)
    return f"not true: {', '.join(unready)}" if unready else "the controller has not seen the spec"


def _told(status: int, what: str, error: Exception) -> Exception:
    """An API server's refusal in our words."""
    reason = getattr(error, "body", None) or str(error)
    if status == 404:
        return NotFound(f"Kubernetes: no {what} in this namespace")
    if status in (409, 422):
        return InvalidRequest(f"Kubernetes: {what} changed meanwhile or refused: {reason}")
    if status in (401, 403):
        return InvalidRequest(f"Kubernetes: not allowed to touch {what}: {reason}")
    return Unavailable(f"Kubernetes: expected 200 for {what}, got {status}: {reason}")
