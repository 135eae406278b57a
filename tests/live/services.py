"""`nimbusguard serve` and `nimbusguard decide` as a user runs them, on free ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.live.processes import ROOT, start
from tests.live.stack import NAMESPACE

COMMAND = Path(sys.executable).parent / "nimbusguard"


@dataclass(slots=True, kw_only=True)
class Services:
    """Both services; enter it to start them."""

    prometheus: str
    """The base URL that the transformer looks workloads up at."""
    log: Path
    url: str = ""
    """The transformer's base URL."""
    _exit: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Services:
        ports = ("http", "grpc", "predictor-http", "predictor-grpc")
        process = start(
            [COMMAND, "serve", *(f"--{port}-port=0" for port in ports)],
            log=self.log,
            environ={"PROMETHEUS_ENDPOINT": self.prometheus},
        )
        self._exit.callback(process.end)
        try:
            # The first line comes when both are ready: `transformer  <url>  (gRPC <port>)`.
            self.url = process.first_line().split()[1]
        except AssertionError as error:
            self._exit.close()
            message = f"{error}: {self.log.read_text()}"
            raise AssertionError(message) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def post(self, instances: list[Any]) -> httpx.Response:
        """One V1 prediction."""
        url = f"{self.url}/v1/models/nimbusguard-dqn:predict"
        return httpx.post(url, json={"instances": instances}, timeout=10, trust_env=False)

    def predict(self, instances: list[Any]) -> list[dict[str, Any]]:
        """The decisions, one an instance."""
        response = self.post(instances)
        assert response.status_code == httpx.codes.OK, response.text
        decisions: list[dict[str, Any]] = response.json()["predictions"]
        return decisions

    def decide(self, workload: str) -> Mapping[str, Any]:
        """What `nimbusguard decide --prometheus` prints for a workload."""
        command = [str(COMMAND), "decide", "--json", f"--prometheus={self.prometheus}"]
        command += [f"--namespace={NAMESPACE}", f"--deployment={workload}"]
        done = subprocess.run(
            [*command, f"--endpoint={self.url}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        decisions: list[Mapping[str, Any]] = json.loads(done.stdout)["predictions"]
        return decisions[0]
