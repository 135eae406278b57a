"""Local copies of model versions, from the model store: verified, loaded once, kept."""

from __future__ import annotations

import threading
from typing import Final

from model_store.metadata import ONNX_FILE
from model_store.store import ModelStore
from nimbusguard.client.local_model import LocalModel, ModelIdentity

_KEPT: Final = 4
"""Versions in memory: stable, canary, and their predecessors."""


class LocalModels:
    """Loads versions on demand; safe for many threads."""

    def __init__(self, store: ModelStore, name: str) -> None:
        self._store = store
        self._name = name
        self._lock = threading.Lock()
        self._loaded: dict[str, LocalModel] = {}
        self._preferred: str | None = None

    def load(self, reference: str) -> LocalModel:
        """The model of a version or an alias.

        Raises:
            VersionNotFound: The store holds no such version.
            ArtifactCorrupted: Its files are not what its metadata says.
            IncompatibleModel: It was trained for another feature table.
            Unavailable: The store cannot be reached.
        """
        version = self._store.resolve(self._name, reference)
        with self._lock:
            if version not in self._loaded:
                self._loaded[version] = self._read(version)
                while len(self._loaded) > _KEPT:
                    self._loaded.pop(next(iter(self._loaded)))
            return self._loaded[version]

    def prefer(self, version: str) -> None:
        """Answer with this version from now on, if it is loaded: KServe answers with it too."""
        if version in self._loaded:
            self._preferred = version

    def current(self) -> LocalModel | None:
        """The preferred version, else the one loaded last; None while none is."""
        with self._lock:
            if self._preferred in self._loaded:
                return self._loaded[self._preferred]
            return next(reversed(self._loaded.values()), None)

    def _read(self, version: str) -> LocalModel:
        verified = self._store.verify(self._name, version)
        metadata = verified.metadata
        identity = ModelIdentity(
            name=metadata.name, version=metadata.version, fingerprint=metadata.fingerprint
        )
        return LocalModel.from_onnx(verified.files[ONNX_FILE], identity)
