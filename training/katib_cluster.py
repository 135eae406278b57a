"""An Experiment as it stands in a cluster, through the official client; nothing is changed."""

from __future__ import annotations

from typing import Any

from nimbusguard.contract.errors import InvalidRequest, NotFound, Unavailable

_TIMEOUT_S = 10.0


def fetch_experiment(namespace: str, name: str, *, context: str | None = None) -> dict[str, Any]:
    """The Experiment with its status.

    Raises:
        InvalidRequest: There is no kubeconfig, or no such context in it.
        NotFound: There is no such Experiment, or no Katib.
        Unavailable: The API server did not answer.
    """
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config.config_exception import ConfigException
    from urllib3.exceptions import HTTPError

    try:
        config.load_kube_config(context=context)
    except ConfigException as error:
        message = f"kubeconfig: expected one that names a cluster, got {error}"
        raise InvalidRequest(message) from error
    try:
        found: dict[str, Any] = client.CustomObjectsApi().get_namespaced_custom_object(
            "kubeflow.org", "v1beta1", namespace, "experiments", name, _request_timeout=_TIMEOUT_S
        )
    except ApiException as error:
        message = f"experiment {namespace}/{name}: got {error.status} {error.reason}"
        raise (NotFound if error.status == 404 else Unavailable)(message) from error
    except HTTPError as error:
        message = f"experiment {namespace}/{name}: expected an answer of the cluster, got {error}"
        raise Unavailable(message) from error
    return found
