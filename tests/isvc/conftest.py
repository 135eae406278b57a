"""A running overlay: images, haproxy and pods, and a store with more than one version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.images.toolchain import build_all
from tests.isvc.cluster import Cluster
from tests.isvc.controller import Document
from tests.isvc.layout import make_cluster, make_network, remove_pods
from tests.isvc.network import Network
from tests.isvc.versions import publish_versions

SUBNETS = ("127.78.0", "127.78.1")
"""Addresses of pods and of Services; not those of `make isvc-up`, which may be running."""


Splits = Mapping[str, Mapping[str, int]]


class Start(Protocol):
    """Starts rendered objects, with gateways that split requests by weight."""

    def __call__(self, documents: list[Document], splits: Splits | None = None) -> Running: ...


@dataclass(frozen=True, slots=True)
class Running:
    """An overlay whose pods are ready."""

    documents: list[Document]
    network: Network
    cluster: Cluster


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with versions 1 to 5; `versions` says what each is."""
    return publish_versions(tmp_path_factory.mktemp("store"))


@contextmanager
def starting(store: Path, folder: Path, subnets: tuple[str, str] = SUBNETS) -> Iterator[Start]:
    """Starts rendered objects; whatever runs at the end is removed."""
    build_all()
    remove_pods(subnets[0])
    with ExitStack() as stack:

        def start(documents: list[Document], splits: Splits | None = None) -> Running:
            network = make_network(documents, folder, subnets[1])
            network.splits = splits or {}
            stack.enter_context(network)
            cluster = make_cluster(network, store, subnets[0])
            stack.callback(cluster.stop)
            cluster.apply(documents)
            return Running(documents, network, cluster)

        yield start


@pytest.fixture
def run_overlay(store: Path, tmp_path: Path) -> Iterator[Start]:
    """Runs one overlay until the end of the test."""
    with starting(store, tmp_path) as start:
        yield start
