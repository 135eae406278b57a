"""Which loopback address stands for what, and which image for which name in the manifests."""

from __future__ import annotations

from pathlib import Path

from tests.images.toolchain import PREFIX, VERSION
from tests.isvc.cluster import Cluster
from tests.isvc.controller import Document, service_specs
from tests.isvc.network import Network

OPERATORS_NAME = "nimbusguard-dqn-model.nimbusguard-serving.svc.cluster.local"

IMAGES = {
    f"{registry}nimbusguard/{name}:{VERSION}": f"{PREFIX}/{name}:{VERSION}"
    for registry in ("", "registry.example.com/")
    for name in ("predictor", "transformer")
}


def make_network(documents: list[Document], folder: Path, subnet: str = "127.77.1") -> Network:
    """One address for each Service of the manifests.

    Args:
        documents: The rendered overlay.
        folder: For haproxy's files.
        subnet: First three parts of the Services' addresses.
    """
    services = {
        f"{subnet}.{number}": service
        for number, service in enumerate(service_specs(documents), start=1)
    }
    return Network(folder=folder, services=services)


def make_cluster(network: Network, store: Path | None = None, subnet: str = "127.77.0") -> Cluster:
    """No pods yet; `store` is where storage URIs are resolved."""
    return Cluster(
        network=network,
        subnet=subnet,
        images=IMAGES,
        store=store,
        labels={"nimbusguard.io/isvc": subnet},
    )
