"""Runs one pod with podman as its spec says: limits, security, volumes, probes, preStop and grace.

A pod's own address is one of loopback's, so that every pod may listen on the ports of the manifest.
The servers are told it by the variable that `nimbusguard serve` uses too; nothing else differs from
what the manifests ask for.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.images.container import Container, wait_until
from tests.isvc.controller import MODEL_DIR, Document, PodTemplate


def cores(quantity: str) -> float:
    """CPU as Kubernetes writes it: `500m` is half a core."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def size(quantity: str) -> str:
    """Memory as podman writes it: `512Mi` is `512m`."""
    return quantity.removesuffix("i").lower()


@dataclass(slots=True)
class Pod:
    """One pod on one loopback address.

    Attributes:
        template: What it is made from.
        address: Its own.
        hosts: Names that cluster DNS would resolve, to addresses.
        images: Names of images in the manifests to references in podman's storage.
        model: Folder that stands for what the storage initializer fetched.
    """

    template: PodTemplate
    address: str
    hosts: dict[str, str]
    images: dict[str, str]
    model: Path | None = None
    containers: list[Container] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    ready_after_s: float = 0.0

    def start(self) -> None:
        """Start every container."""
        for spec in self.template.spec["containers"]:
            container = self._container(spec)
            container.start()
            self.containers.append(container)

    def is_ready(self) -> bool:
        """Whether the readiness probe of every container succeeds."""
        return all(self._probe(spec["readinessProbe"]) for spec in self.template.spec["containers"])

    def wait_ready(self, within_s: float = 90) -> None:
        """Poll the readiness probes, and note the seconds that it took."""
        self.ready_after_s = wait_until(self.is_ready, self.containers[0], within_s=within_s)

    def terminate(self) -> list[int]:
        """The pod's end: preStop, SIGTERM, grace, container by container at the same time.

        Returns:
            The exit status of each container.
        """
        grace = self.template.spec["terminationGracePeriodSeconds"]
        codes: dict[int, int] = {}

        def end(index: int, spec: Document) -> None:
            waits = spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            time.sleep(waits)  # is what `preStop: sleep` does, not a wait for a condition
            codes[index] = self.containers[index].stop(grace - waits)

        threads = [
            threading.Thread(target=end, args=(index, spec))
            for index, spec in enumerate(self.template.spec["containers"])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.remove()
        return [codes[index] for index in sorted(codes)]

    def remove(self) -> None:
        """Take every container away."""
        for container in self.containers:
            container.remove()

    def _container(self, spec: Document) -> Container:
        context, limits = spec["securityContext"], spec["resources"]["limits"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        options = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
        options += ["--cpus", str(cores(limits["cpu"]))]
        for name, address in self.hosts.items():
            options += ["--add-host", f"{name}:{address}"]
        for key, value in self.labels.items():
            options += ["--label", f"{key}={value}"]
        for mount in spec["volumeMounts"]:
            access = "ro" if mount.get("readOnly") else "rw"
            limit = self._volume(mount["name"])["emptyDir"]["sizeLimit"]
            options += ["--tmpfs", f"{mount['mountPath']}:{access},size={size(limit)},mode=1777"]
        if self.model is not None:
            options += ["--volume", f"{self.model}:{MODEL_DIR}:ro"]
        # Inside a pod `localhost` is the pod.
        arguments = [
            argument.replace("=localhost:", f"={self.address}:") for argument in spec["args"]
        ]
        environment = {entry["name"]: str(entry.get("value", "")) for entry in spec["env"]}
        return Container(
            image=self.images[spec["image"]],
            arguments=arguments,
            options=options,
            environment={**environment, "NIMBUSGUARD_HOST": self.address},
            memory=size(limits["memory"]),
        )

    def _volume(self, name: str) -> Document:
        volume: Document = next(v for v in self.template.spec["volumes"] if v["name"] == name)
        return volume

    def _probe(self, probe: Document) -> bool:
        get = probe["httpGet"]
        url = f"http://{self.address}:{get['port']}{get['path']}"
        try:
            return httpx.get(url, timeout=probe["timeoutSeconds"]).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
