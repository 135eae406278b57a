"""The store inside the package: the default model, so that `serve` needs no download."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from model_store.store import ModelStore, open_store
from nimbusguard.contract.errors import NotFound


def packaged_path() -> Path:
    """The folder of the packaged store.

    Raises:
        NotFound: The package lies in an archive, where a model server could not read it.
    """
    folder = resources.files("model_store") / "default"
    if not isinstance(folder, Path):
        message = f"packaged store: expected an installed folder, got {folder}; install unzipped"
        raise NotFound(message)
    return folder


def packaged_store() -> ModelStore:
    """The packaged store; read only by convention, since an upgrade replaces it."""
    return open_store(packaged_path())
