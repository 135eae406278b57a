"""Which loopback address stands for what, and which image for which name in the manifests."""

from __future__ import annotations

from pathlib import Path

from tests.images.toolchain import PREFIX, VERSION, run
from tests.isvc.cluster import Cluster
from tests.isvc.controller import Document, service_specs
from tests.isvc.network import Network

OPERATORS_NAME = "nimbusguard-dqn-model.nimbusguard-serving.svc.cluster.local"

LABEL = "nimbusguard.io/isvc"
"""Of every container; its value is the subnet of the pods."""

POD_SUBNET, SERVICE_SUBNET = "127.77.0", "127.77.1"
"""First three parts of the loopback addresses of `make isvc-up`."""

IMAGES = {
    f"{registry}nimbusguard/{name}:{VERSION}": f"{PREFIX}/{name}:{VERSION}"
    for registry in ("", "registry.example.com/")
    for name in ("predictor", "transformer")
}


def make_network(documents: list[Document], folder: Path, subnet: str = SERVICE_SUBNET) -> Network:
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


def make_cluster(network: Network, store: Path | None = None, subnet: str = POD_SUBNET) -> Cluster:
    """No pods yet; `store` is where storage URIs are resolved."""
    return Cluster(
        network=network,
        subnet=subnet,
        images=IMAGES,
        store=store,
        labels={LABEL: subnet},
    )


def remove_pods(subnet: str) -> list[str]:
    """Remove every container of a subnet, also of a run that was killed; gives back their ids."""
    listed = run("podman", "ps", "--all", "--quiet", "--filter", f"label={LABEL}={subnet}").split()
    for container in listed:
        run("podman", "rm", "--force", "--time", "30", container)
    return listed
