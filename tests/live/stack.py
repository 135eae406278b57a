"""A workload on one machine with everything that watches it: the pieces of the live tests.

`LiveStack` starts pods (processes of `service`), the stand-in exporters and a real Prometheus with
the shipped recording rules, drives load, and ends every process that it started.

The shipped rules have windows of 1 min for scrapes of 15 s. A test cannot wait for that: here every
second is scraped and evaluated, and `live_rules` writes 5 s for the windows and 1 s for the
interval into a copy. Nothing else differs.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import yaml
from numpy.typing import NDArray

from nimbusguard.client.prometheus import PrometheusClient, PrometheusSettings
from nimbusguard.contract.errors import NimbusGuardError
from nimbusguard.contract.features import NAMES
from tests.live.processes import ROOT, Process, start, wait_until
from tests.live.programs import program

RULES: Final = ROOT / "manifests/monitoring/recording-rules.yaml"
NAMESPACE: Final = "shop"
WINDOW_S: Final = 5
CPU_LIMIT: Final = 0.08
"""Cores. A pod that is busy all the time uses about 0.09, little enough for a busy machine."""
MEMORY_LIMIT: Final = 100 * 1024 * 1024
START_TIMEOUT_S: Final = 20.0


def live_rules() -> str:
    """The shipped rules with windows of 5 s, evaluated every second."""
    text = RULES.read_text()
    for shipped, here in (
        ("[1m]", f"[{WINDOW_S}s]"),
        ("offset 1m", f"offset {WINDOW_S}s"),
        ("interval: 15s", "interval: 1s"),
    ):
        assert shipped in text, f"the rules no longer say {shipped}"
        text = text.replace(shipped, here)
    return text


@dataclass(slots=True, kw_only=True)
class Pod:
    """One process of the service."""

    workload: str
    name: str
    process: Process
    url: str
    cpu_limit: float = CPU_LIMIT
    cpu_quota: bool = False
    """Whether its CPU is shown as if the limit were enforced."""
    ready: bool = True
    """What kube-state-metrics says of it."""

    def describe(self) -> dict[str, object]:
        """What the stand-in exporters need to know."""
        return {
            "namespace": NAMESPACE,
            "workload": self.workload,
            "pod": self.name,
            "pid": self.process.popen.pid,
            "url": self.url,
            "cpu_limit": self.cpu_limit,
            "cpu_quota": self.cpu_quota,
            "memory_limit": MEMORY_LIMIT,
            "ready": self.ready,
        }


@dataclass(slots=True, kw_only=True)
class LiveStack:
    """Pods, exporters and Prometheus; enter it to start them."""

    folder: Path
    cpu_limit: float = CPU_LIMIT
    cpu_quota: bool = False
    pods: list[Pod] = field(default_factory=list)
    endpoint: str = ""
    """Prometheus' base URL."""
    prometheus: Process = field(init=False)
    _exit: ExitStack = field(default_factory=ExitStack)
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1000)))

    def __enter__(self) -> LiveStack:
        try:
            self.announce()
            exporters = self._started(
                [sys.executable, ROOT / "tests/live/exporters.py", self._pods],
                log=self.folder / "exporters.log",
            )
            self._start_prometheus(int(exporters.first_line()))
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self.pods:
            pod.process.popen.terminate()
        for pod in self.pods:
            pod.process.end()
        self._exit.close()

    def scale(self, workload: str, replicas: int) -> None:
        """Start or end pods of a workload until there are so many."""
        mine = self.pods_of(workload)
        for pod in mine[replicas:]:
            self.leave(pod)
            pod.process.end()
        for _ in range(replicas - len(mine)):
            self.pods.append(self.start_pod(workload))
        self.announce()

    def pods_of(self, workload: str) -> list[Pod]:
        """Its pods, the oldest first."""
        return [pod for pod in self.pods if pod.workload == workload]

    def start_pod(self, workload: str, *, niceness: int = 0) -> Pod:
        """A pod that answers but that nobody knows of yet; takes most of a second.

        Args:
            workload: Whose pod.
            niceness: How far it stands back for other processes of this machine.
        """
        program = [sys.executable, ROOT / "tests/live/service.py"]
        process = start(["nice", "-n", str(niceness), *program])
        url = f"http://127.0.0.1:{process.first_line()}"
        name = f"{workload}-7d9f-{next(self._numbers)}"
        return Pod(
            workload=workload,
            name=name,
            process=process,
            url=url,
            cpu_limit=self.cpu_limit,
            cpu_quota=self.cpu_quota,
        )

    def join(self, pod: Pod) -> None:
        """Let the exporters and Prometheus know a pod."""
        self.pods.append(pod)
        self.announce()

    def leave(self, pod: Pod) -> None:
        """Let them forget it."""
        self.pods.remove(pod)
        self.announce()

    @contextmanager
    def load(
        self, workload: str, rate: float, *, seconds: float = 90, even: bool = False
    ) -> Iterator[None]:
        """Requests to all pods of a workload, `rate` per second together, while the block runs."""
        urls = [pod.url for pod in self.pods if pod.workload == workload]
        script = ROOT / "tests/live/load.py"
        flags = [f"--rate={rate}", f"--seconds={seconds}", *(["--even"] if even else [])]
        driver = start([sys.executable, script, *flags, *urls])
        try:
            yield
        finally:
            results = json.loads(driver.end() or "{}")
        assert set(results) <= {"200", "503"}, f"the load met errors: {results}"
        assert results.get("200"), "the load never reached the service"

    def await_row(
        self,
        workload: str,
        what: str,
        condition: Callable[[dict[str, float]], bool],
        *,
        timeout_s: float = 60,
    ) -> dict[str, float]:
        """Poll the features of a workload until a condition holds; they are returned by name."""
        seen: dict[str, float] = {}

        def holds() -> bool:
            with contextlib.suppress(NimbusGuardError):
                seen.update(self.row(workload))
                return condition(seen)
            return False

        try:
            wait_until(what, holds, timeout_s)
        except AssertionError as error:
            message = f"{error}; last seen: {seen}"
            raise AssertionError(message) from None
        return seen

    def read(self, workload: str) -> NDArray[np.float64]:
        """The raw features (F,) of a workload, through the client."""
        with PrometheusClient(PrometheusSettings(endpoint=self.endpoint)) as client:
            return client.read(NAMESPACE, workload)

    def row(self, workload: str) -> dict[str, float]:
        """The same by name."""
        return dict(zip(NAMES, self.read(workload).tolist(), strict=True))

    @property
    def _pods(self) -> Path:
        return self.folder / "pods.json"

    @property
    def _targets(self) -> Path:
        return self.folder / "targets.json"

    def _started(self, command: Sequence[str | Path], *, log: Path | None = None) -> Process:
        process = start(command, log=log)
        self._exit.callback(process.end)
        return process

    def announce(self) -> None:
        """Tell exporters and Prometheus which pods there are, each file in one step."""
        targets = [
            {
                "targets": [pod.url.removeprefix("http://")],
                "labels": {"namespace": NAMESPACE, "pod": pod.name},
            }
            for pod in self.pods
        ]
        for path, document in (
            (self._pods, [pod.describe() for pod in self.pods]),
            (self._targets, targets),
        ):
            aside = path.with_suffix(".tmp")
            aside.write_text(json.dumps(document))
            aside.rename(path)

    def _start_prometheus(self, exporters_port: int) -> None:
        (self.folder / "rules.yaml").write_text(live_rules())
        config = self.folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump(self._configuration(exporters_port)))
        log = self.folder / "prometheus.log"
        # Prometheus cannot choose a free port itself; another process may take this one first.
        for _ in range(3):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                address = f"127.0.0.1:{probe.getsockname()[1]}"
            flags = [f"--config.file={config}", f"--storage.tsdb.path={self.folder / 'data'}"]
            flags += [f"--web.listen-address={address}", "--log.level=warn"]
            self.prometheus = self._started([program("prometheus"), *flags], log=log)
            self.endpoint = f"http://{address}"
            wait_until("Prometheus is ready or has ended", self._is_settled, START_TIMEOUT_S)
            if self.prometheus.popen.poll() is None:
                return
        message = f"Prometheus ended: {log.read_text()}"
        raise AssertionError(message)

    def _is_settled(self) -> bool:
        if self.prometheus.popen.poll() is not None:
            return True
        with contextlib.suppress(httpx.HTTPError):
            ready = httpx.get(f"{self.endpoint}/-/ready", timeout=1, trust_env=False)
            return ready.status_code == httpx.codes.OK
        return False

    def _configuration(self, exporters_port: int) -> dict[str, object]:
        exporters = [
            {
                "job_name": name,
                "metrics_path": f"/{name}",
                "honor_labels": True,
                # Where a cluster's node-exporter says `instance`, this one has a free port.
                "static_configs": [
                    {"targets": [f"127.0.0.1:{exporters_port}"], "labels": {"node": "node-1"}}
                ],
            }
            for name in ("cadvisor", "kube-state-metrics", "node-exporter")
        ]
        service = {
            "job_name": "service",
            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
        }
        return {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [str(self.folder / "rules.yaml")],
            "scrape_configs": [*exporters, service],
        }
