"""Renders the kustomizations with the real tool and finds its way about the result."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
OVERLAYS = tuple(sorted(path.name for path in (MANIFESTS / "overlays").iterdir()))

Document = dict[str, Any]


def command() -> list[str]:
    """The kustomize that users have: inside kubectl, or the program itself."""
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    pytest.fail("neither kubectl nor kustomize is installed; .ci/run gets kubectl from Debian")


@cache
def _rendered(path: Path) -> str:
    result = subprocess.run(
        [*command(), str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, f"{path.name}: {result.stderr}"
    assert not result.stderr, f"{path.name} renders with a warning: {result.stderr}"
    return result.stdout


def render(path: Path) -> list[Document]:
    """Every object of a kustomization; a fresh copy, so that a test may change it."""
    return list(yaml.safe_load_all(_rendered(path)))


def render_overlay(name: str) -> list[Document]:
    """Every object of one overlay."""
    return render(MANIFESTS / "overlays" / name)


def render_with(directory: Path, component: str, base: str = "overlays/local") -> list[Document]:
    """An overlay with one more component, by a kustomization written for the purpose.

    Args:
        directory: Where to write it; kustomize takes relative paths only, so it is linked there.
        component: Folder under `components`.
        base: What it is added to.
    """
    link = directory / "manifests"
    shutil.copytree(MANIFESTS, link)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"manifests/{base}"],
        "components": [f"manifests/components/{component}"],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(directory)


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """The objects of one kind, in their order."""
    return [document for document in documents if document["kind"] == kind]


def services(documents: list[Document]) -> list[Document]:
    """The InferenceServices."""
    return of_kind(documents, "InferenceService")


def mode(service: Document) -> str | None:
    """The deployment mode that an InferenceService names, if it does."""
    annotations = service["metadata"].get("annotations", {})
    value = annotations.get("serving.kserve.io/deploymentMode")
    return None if value is None else str(value)


def components(service: Document) -> Iterator[tuple[str, Document]]:
    """Predictor and, if there is one, transformer, by name."""
    for name in ("predictor", "transformer"):
        if name in service["spec"]:
            yield name, service["spec"][name]


def containers(service: Document) -> Iterator[tuple[str, Document]]:
    """Every container with the name of its component; a `model` counts as one."""
    for name, component in components(service):
        for container in component.get("containers", []):
            yield name, container
        if "model" in component:
            yield name, component["model"]


def flags(container: Document) -> dict[str, str]:
    """The arguments as a mapping; each is written `--name=value`."""
    return dict(argument.split("=", 1) for argument in container.get("args", []))


def environment(container: Document) -> dict[str, Any]:
    """Names of the container's variables to their values."""
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}


def changed(documents: list[Document]) -> list[Document]:
    """A deep copy, for a test that breaks something on purpose."""
    return copy.deepcopy(documents)
