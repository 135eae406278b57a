"""A published version in Kubeflow's Model Registry, so that it is found where other models are.

The registry holds names and addresses, never files: it points to the version's folder in the store.
The client is an optional extra, because it is alpha and pins much.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from model_store.store import ModelStore
from nimbusguard.contract.errors import InvalidRequest
from training.candidate import MODEL_NAME


def register(store: ModelStore, version: str, address: str) -> str:
    """Register a version; returns its `model-registry://` address.

    Args:
        store: Where the version is; the registry's storage initializer reads s3 and http alone.
        version: Its number.
        address: http(s)://host[:port] of the registry's REST service.

    Raises:
        InvalidRequest: The address is none, or the client is not installed.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = f"model registry: expected http(s)://host[:port], got {address!r}"
        raise InvalidRequest(message)
    try:
        from model_registry import ModelRegistry
    except ImportError as error:
        message = (
            "the Model Registry's client is not installed; pip install 'nimbusguard[registry]'"
        )
        raise InvalidRequest(message) from error
    metadata = store.show(MODEL_NAME, version)
    secure = parts.scheme == "https"
    client = ModelRegistry(
        f"{parts.scheme}://{parts.hostname}",
        parts.port or (443 if secure else 80),
        author="nimbusguard",
        is_secure=secure,
    )
    client.register_model(
        MODEL_NAME,
        store.version_uri(MODEL_NAME, version),
        version=version,
        model_format_name="torchscript",
        model_format_version="1",
        description="Deep Q-Network: eleven metrics to one of five scaling actions",
        metadata={
            "fingerprint": metadata.fingerprint,
            "gate_passed": bool(metadata.evaluation["gate"]["passed"]),
        },
    )
    return f"model-registry://{MODEL_NAME}/{version}"
