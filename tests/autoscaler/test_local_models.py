"""Local copies of versions: verified, kept, preferred as KServe serves them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoscaler.local_models import LocalModels
from model_store.packaged import packaged_path
from model_store.store import ModelStore, open_store
from nimbusguard.contract.errors import ArtifactCorrupted, VersionNotFound

NAME = "nimbusguard-dqn"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(packaged_path(), tmp_path / "store"))


@pytest.fixture
def store(folder: Path) -> ModelStore:
    return open_store(folder)


def test_a_version_is_loaded_once_and_by_any_name(store: ModelStore) -> None:
    """An alias is resolved each time, the version behind it kept."""
    models = LocalModels(store, NAME)
    assert models.current() is None

    model = models.load("production")

    assert models.load(model.identity.version) is model
    assert models.current() is model


def test_a_version_that_is_not_there_is_an_error(store: ModelStore) -> None:
    """And what is loaded stays."""
    models = LocalModels(store, NAME)
    model = models.load("latest")

    with pytest.raises(VersionNotFound):
        models.load("999")
    assert models.current() is model


def test_a_changed_file_is_not_loaded(store: ModelStore, folder: Path) -> None:
    """Its digest is not that of its metadata."""
    version = store.resolve(NAME, "latest")
    file = folder / NAME / version / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    with pytest.raises(ArtifactCorrupted, match=r"model\.onnx"):
        LocalModels(store, NAME).load(version)


def test_the_version_that_kserve_serves_is_preferred(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another was loaded since; of many only the newest are kept."""
    models = LocalModels(store, NAME)
    model = models.load("latest")
    monkeypatch.setattr(store, "resolve", lambda name, reference: reference)
    monkeypatch.setattr(models, "_read", lambda version: f"model {version}")

    models.load("7")
    assert models.current() == "model 7"
    models.prefer(model.identity.version)
    assert models.current() is model
    models.prefer("not loaded")
    assert models.current() is model
    for version in ("8", "9", "10"):
        models.load(version)
    assert models.current() == "model 10"
