"""Applies rendered manifests to this machine: Deployments with rolling updates, Services, names."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.isvc.controller import Document, PodTemplate, pod_templates
from tests.isvc.kubelet import Pod
from tests.isvc.network import Network


@dataclass(slots=True)
class Cluster:
    """The running pods behind a network.

    Attributes:
        network: Carries Services and splits.
        subnet: First three parts of the loopback addresses that pods get.
        images: Names of images in the manifests to references in podman's storage.
        store: Root of the model store that storage URIs are resolved in.
        labels: Put on every container, so that others can find them.
    """

    network: Network
    subnet: str
    images: dict[str, str]
    store: Path | None = None
    labels: dict[str, str] = field(default_factory=dict)
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    _next: int = 1
    _endings: list[Future[list[int]]] = field(default_factory=list)
    _executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def apply(self, documents: list[Document]) -> None:
        """Make the pods what the InferenceServices ask for, predictors first.

        What runs already is replaced as `maxSurge: 1, maxUnavailable: 0` says: a new pod becomes
        ready and gets traffic before an old one loses its own.
        """
        templates = [
            template
            for document in documents
            if document["kind"] == "InferenceService"
            for template in pod_templates(document)
        ]
        for template in templates:
            self._roll(template)

    def wait_for_endings(self) -> list[int]:
        """Wait until every pod that was told to end has; gives back the exit statuses."""
        codes = [code for ending in self._endings for code in ending.result(timeout=120)]
        self._endings.clear()
        return codes

    def stop(self) -> None:
        """Remove every pod at once."""
        self._executor.shutdown(wait=True)
        for pods in self.pods.values():
            for pod in pods:
                pod.remove()

    def _roll(self, template: PodTemplate) -> None:
        running = self.pods.setdefault(template.name, [])
        old = [pod for pod in running if pod.template != template]
        wanted = template.replicas - (len(running) - len(old))
        for _ in range(wanted):
            pod = self._start(template)
            running.append(pod)
            if old:
                self._end(old.pop(0))
        for pod in old:
            self._end(pod)

    def _start(self, template: PodTemplate) -> Pod:
        pod = Pod(
            template=template,
            address=f"{self.subnet}.{self._next}",
            hosts=self.network.hosts,
            images=self.images,
            model=self._model(template.storage_uri),
            labels=self.labels,
        )
        self._next += 1
        try:
            pod.start()
            pod.wait_ready()
        except BaseException:
            pod.remove()
            raise
        self.network.add(template.label, pod.address)
        return pod

    def _end(self, pod: Pod) -> None:
        """The endpoint goes and termination begins at the same moment, as in a cluster."""
        self.pods[pod.template.name].remove(pod)
        self.network.remove(pod.template.label, pod.address)
        self._endings.append(self._executor.submit(pod.terminate))

    def _model(self, uri: str | None) -> Path | None:
        """`…/nimbusguard-dqn/2` is the version's folder in the store, whatever the scheme."""
        if uri is None:
            return None
        assert self.store is not None, f"{uri}: no model store was given"
        name, version = uri.rstrip("/").split("/")[-2:]
        path = self.store / name / version
        assert path.is_dir(), f"{uri}: {path} is no folder"
        return path
