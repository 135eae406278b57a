"""A stand-in for the API server, and a kubeconfig that points to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.canary.api_server import ApiServer, Document


@pytest.fixture
def serve_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[list[Document]], ApiServer]]:
    """Starts the stand-in with objects; the official client then finds it by itself."""
    with ExitStack() as stack:

        def start(documents: list[Document]) -> ApiServer:
            kinds = {"InferenceService", "InferenceGraph"}
            api = ApiServer([document for document in documents if document["kind"] in kinds])
            stack.callback(api.stop)
            path = tmp_path / "kubeconfig"
            path.write_text(yaml.safe_dump(_kubeconfig(api.url)))
            # The client reads the variable once, when it is imported.
            monkeypatch.setattr(
                "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path)
            )
            monkeypatch.setattr("nimbusguard.canary.kubernetes._POLL_S", 0.01)
            return api

        yield start


def _kubeconfig(url: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
    }
