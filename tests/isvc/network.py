"""A haproxy that stands for kube-proxy and for a splitting gateway.

A Service is balanced by connection, as a ClusterIP is: whoever keeps a connection keeps its pod. A
split is by request and weight, as a gateway's. Nothing is retried: every failure is the caller's.
Endpoints and weights change through haproxy's runtime socket, without a reload.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.images.container import wait_until
from tests.isvc.controller import ServiceSpec

SLOTS = 8
"""Endpoints that one Service may have at once: two generations of four."""

HEAD = """\
global
    stats socket {folder}/admin.sock mode 600 level admin
defaults
    timeout connect 2s
    timeout client 120s
    timeout server 120s
    retries 0
"""


@dataclass(slots=True)
class Network:
    """Services and splits on loopback addresses.

    Attributes:
        folder: For configuration and sockets.
        services: Each with the address that its name resolves to.
        splits: Address to the Services that share its requests and their weights.
    """

    folder: Path
    services: dict[str, ServiceSpec]
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, int]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def hosts(self) -> dict[str, str]:
        """Every name that cluster DNS would know."""
        return {
            name: address for address, service in self.services.items() for name in service.hosts
        }

    def start(self) -> None:
        """Write the configuration and start haproxy."""
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(self._configuration())
        with (self.folder / "haproxy.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["haproxy", "-db", "-f", str(configuration)], stdout=log, stderr=log
            )
        wait_until((self.folder / "admin.sock").exists, within_s=10)

    def stop(self) -> None:
        """End haproxy."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None

    def add(self, label: str, address: str) -> None:
        """A pod became ready: every Service that selects it sends it connections."""
        for backend, port in self._backends(label):
            used = self.endpoints.setdefault(backend, {})
            slot = next(n for n in range(1, SLOTS + 1) if n not in used.values())
            used[address] = slot
            self.command(f"set server {backend}/pod{slot} addr {address} port {port}")
            self.command(f"set server {backend}/pod{slot} state ready")

    def remove(self, label: str, address: str) -> None:
        """A pod is terminating: no new connections; those that are open live on."""
        for backend, _ in self._backends(label):
            slot = self.endpoints[backend].pop(address)
            self.command(f"set server {backend}/pod{slot} state maint")

    def weigh(self, address: str, weights: Mapping[str, int]) -> None:
        """Change the weights of a split."""
        for name, weight in weights.items():
            self.command(f"set weight split_{_word(address)}/{name} {weight}")

    def command(self, text: str) -> str:
        """One command on the runtime socket; an answer other than a notice is an error."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.folder / "admin.sock"))
            connection.sendall(text.encode() + b"\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode().strip()
        assert not answer or "changed" in answer or "no need" in answer, f"{text}: {answer}"
        return answer

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _backends(self, label: str) -> Iterable[tuple[str, int]]:
        for address, service in self.services.items():
            if service.label == label:
                yield from (
                    (f"service_{_word(address)}_{port}", target) for port, target in service.ports
                )

    def _configuration(self) -> str:
        parts = [HEAD.format(folder=self.folder)]
        for address, service in self.services.items():
            for port, _ in service.ports:
                name = f"service_{_word(address)}_{port}"
                parts.append(
                    f"frontend in_{name}\n    mode tcp\n    bind {address}:{port}\n"
                    f"    default_backend {name}\n"
                    f"backend {name}\n    mode tcp\n    balance roundrobin\n"
                    f"    server-template pod 1-{SLOTS} 127.0.0.1:1 disabled\n"
                )
        by_name = {service.name: address for address, service in self.services.items()}
        for address, weights in self.splits.items():
            name = f"split_{_word(address)}"
            servers = "".join(
                f"    server {target} {by_name[target]}:80 weight {weight}\n"
                for target, weight in weights.items()
            )
            parts.append(
                f"frontend in_{name}\n    mode http\n    bind {address}:80\n"
                f"    default_backend {name}\n"
                f"backend {name}\n    mode http\n    balance roundrobin\n{servers}"
            )
        return "".join(parts)


def _word(address: str) -> str:
    return address.replace(".", "_")
