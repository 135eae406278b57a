"""The whole system as it runs, and what watches it.

That is Prometheus, Alertmanager, a Pushgateway, and a collector of traces.

Two transformers with a predictor each (stable and canary), the operator before stand-ins of the
Kubernetes API and of the workloads' metrics, and steady traffic. Every second is scraped; the
shipped rules are evaluated every second and wait one second where they wait minutes.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from model_store.packaged import packaged_path
from tests.live.processes import ROOT, start, wait_until
from tests.live.programs import program
from tests.service.processes import MODEL, Server, running
from tests.standin.process import operator, stand_ins
from training.telemetry import (
    EXPERIMENTS,
    MODEL_ACCURACY,
    PIPELINE_RUNS,
    TRAINING_DURATION,
    Pushgateway,
)

MONITORING: Final = ROOT / "manifests/monitoring"
WORKLOADS: Final = 8
ROW: Final = {
    "cpu_utilization": 0.93, "memory_utilization": 0.55, "network_io_rate": 120000,
    "request_rate": 85, "pod_count": 4, "response_time_p95": 0.31, "error_rate": 0.002,
    "queue_depth": 12, "cpu_throttling": 0.2, "memory_pressure": 0.6, "node_utilization": 0.5,
}  # fmt: skip
ASKED: Final = (
    ROW,
    ROW | {"queue_depth": 500},  # clipped
    {name: value for name, value in ROW.items() if name != "cpu_throttling"},  # imputed
    {name: value for name, value in ROW.items() if name != "cpu_utilization"},  # refused
)


@dataclass(slots=True, kw_only=True)
class WatchedSystem:
    """Enter it to start everything; leaving it ends everything."""

    folder: Path
    prometheus: str = ""
    alertmanager: str = ""
    operator: str = ""
    transformers: dict[str, Server] = field(default_factory=dict)
    predictors: dict[str, Server] = field(default_factory=dict)
    canary: ExitStack = field(default_factory=ExitStack)
    """Ends the canary's predictor."""
    _exit: ExitStack = field(default_factory=ExitStack)
    _tracing: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> WatchedSystem:
        try:
            self._collect_traces()
            for arm, version in (("stable", "1"), ("canary", "2")):
                self._serve(arm, version)
            self._operate()
            pushgateway = self._batch_metrics()
            self._watch(pushgateway)
            self._exit.enter_context(self._traffic())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query; one that Prometheus refuses fails here."""
        answer = httpx.get(
            f"{self.prometheus}/api/v1/query", params={"query": promql}, timeout=10, trust_env=False
        )
        assert answer.status_code == httpx.codes.OK, f"{promql}: {answer.text}"
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def exemplars(self, series: str) -> set[str]:
        """The traces that Prometheus keeps as examples of a histogram."""
        answer = httpx.get(
            f"{self.prometheus}/api/v1/query_exemplars",
            params={"query": series, "start": 0, "end": 1e11},
            timeout=10,
            trust_env=False,
        )
        assert answer.status_code == httpx.codes.OK, f"{series}: {answer.text}"
        found = answer.json()["data"]
        return {one["labels"]["trace_id"] for each in found for one in each["exemplars"]}

    def traces(self) -> dict[str, set[str]]:
        """The services whose spans the collector has, by trace."""
        text = (self.folder / "spans.jsonl").read_text()
        found: dict[str, set[str]] = {}
        for line in text[: text.rfind("\n") + 1].splitlines():
            span = json.loads(line)
            found.setdefault(span["trace_id"], set()).add(span["service"])
        return found

    def label_values(self, series: str, label: str) -> list[str]:
        """What `label_values(series, label)` means to Grafana."""
        answer = httpx.get(
            f"{self.prometheus}/api/v1/label/{label}/values",
            params={"match[]": series},
            timeout=10,
            trust_env=False,
        )
        assert answer.status_code == httpx.codes.OK, f"{series}: {answer.text}"
        values: list[str] = answer.json()["data"]
        return values

    def alerts(self) -> set[str]:
        """The names of the alerts that Alertmanager has."""
        answer = httpx.get(f"{self.alertmanager}/api/v2/alerts", timeout=5, trust_env=False)
        return {alert["labels"]["alertname"] for alert in answer.json()}

    def _close(self) -> None:
        self._exit.close()
        self.canary.close()

    def _collect_traces(self) -> None:
        receiver = start(
            [sys.executable, "-m", "tests.service.otlp_receiver", str(self.folder / "spans.jsonl")],
            log=self.folder / "otlp.log",
        )
        self._exit.callback(receiver.end)
        self._tracing = {
            "NIMBUSGUARD_TRACING_ENDPOINT": f"http://127.0.0.1:{receiver.first_line()}",
            "NIMBUSGUARD_TRACING_RATIO": "1",
        }

    def _serve(self, arm: str, version: str) -> None:
        predictor_stack = self.canary if arm == "canary" else self._exit
        self.predictors[arm] = predictor_stack.enter_context(
            running(
                "predictor",
                self.folder / f"predictor-{arm}.log",
                f"--model_dir={packaged_path() / MODEL / version}",
                environ=self._tracing,
            )
        )
        self.transformers[arm] = self._exit.enter_context(
            running(
                "transformer",
                self.folder / f"transformer-{arm}.log",
                f"--predictor_host=127.0.0.1:{self.predictors[arm].http_port}",
                "--predictor_protocol=v2",
                environ=self._tracing,
            )
        )

    def _operate(self) -> None:
        environ = self._exit.enter_context(stand_ins(WORKLOADS)) | self._tracing
        environ |= {
            "KSERVE_ENDPOINT": self.transformers["stable"].url,
            "AUTOSCALER_CANARY_ENDPOINT": self.transformers["canary"].url,
            "AUTOSCALER_SHADOW_CANARY": "true",
            "AUTOSCALER_EXPERIENCE_STORE": str(self.folder / "experience.db"),
        }
        process, self.operator = operator(environ, self.folder / "operator.jsonl")
        self._exit.callback(process.end)

    def _batch_metrics(self) -> str:
        """A gateway with what pipelines and searches leave there, pushed as they push it."""
        address = self._start("prometheus-pushgateway", lambda it: [f"--web.listen-address={it}"])
        push, job = Pushgateway(f"http://{address}"), "nimbusguard-pipeline"
        for name in (PIPELINE_RUNS, EXPERIMENTS):
            for outcome in ("succeeded", "succeeded", "failed"):
                assert push.count(name, job=job, outcome=outcome)
        assert push.gauge(TRAINING_DURATION, 312.5, job=job, seed="1")
        assert push.gauge(MODEL_ACCURACY, 0.97, job=job, model=MODEL)
        return address

    def _watch(self, pushgateway: str) -> None:
        routes = self.folder / "alertmanager.yaml"
        routes.write_text(
            yaml.safe_dump({"route": {"receiver": "r"}, "receivers": [{"name": "r"}]})
        )
        alertmanager = self._start(
            "prometheus-alertmanager",
            lambda it: [
                f"--config.file={routes}",
                f"--storage.path={self.folder / 'alertmanager'}",
                f"--web.listen-address={it}",
                "--cluster.listen-address=",
            ],
        )
        self.alertmanager = f"http://{alertmanager}"
        for file in ("slo-rules.yaml", "alerts.yaml"):
            shipped = (MONITORING / file).read_text()
            (self.folder / file).write_text(re.sub(r"for: \d+m", "for: 1s", shipped))
        config = self.folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump(self._configuration(alertmanager, pushgateway)))
        address = self._start(
            "prometheus",
            lambda it: [
                f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address={it}",
                "--log.level=warn",
                "--enable-feature=exemplar-storage",
            ],
        )
        self.prometheus = f"http://{address}"

    def _start(self, name: str, flags: Callable[[str], list[str]]) -> str:
        """Start a program of Debian's on a free port and wait until it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        process = start([program(name), *flags(address)], log=self.folder / f"{name}.log")
        self._exit.callback(process.end)

        def is_ready() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"http://{address}/-/ready", timeout=1, trust_env=False)
                return answer.status_code == httpx.codes.OK
            return False

        wait_until(f"{name} is ready", is_ready, 20)
        return address

    def _configuration(self, alertmanager: str, pushgateway: str) -> dict[str, Any]:
        servers = [*self.predictors.values(), *self.transformers.values()]
        static: Callable[..., list[dict[str, Any]]] = lambda *targets: [  # noqa: E731 - a shape
            {"targets": list(targets)}
        ]
        return {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [str(self.folder / name) for name in ("slo-rules.yaml", "alerts.yaml")],
            "alerting": {"alertmanagers": [{"static_configs": static(alertmanager)}]},
            "scrape_configs": [
                {
                    "job_name": "servers",
                    "static_configs": static(*(one.url.removeprefix("http://") for one in servers)),
                },
                {
                    "job_name": "operator",
                    "honor_labels": True,
                    "static_configs": static(self.operator.removeprefix("http://")),
                },
                {
                    "job_name": "pushgateway",
                    "honor_labels": True,
                    "static_configs": static(pushgateway),
                },
            ],
        }

    @contextlib.contextmanager
    def _traffic(self) -> Iterator[None]:
        """Every kind of row to both transformers, again and again, and why for one of them."""
        stop = threading.Event()
        urls = [f"{one.url}/v1/models/{MODEL}:predict" for one in self.transformers.values()]

        def ask() -> None:
            with httpx.Client(trust_env=False, timeout=5) as client:
                while not stop.wait(0.1):
                    for url in urls:
                        for row in ASKED:
                            client.post(url, json={"instances": [row]})
                    for url in urls:
                        client.post(url.replace(":predict", ":explain"), json={"instances": [ROW]})

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
