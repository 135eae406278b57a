"""No bearer token, storage key or Prometheus credential reaches a log line or an answer."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from autoscaler.kube import ClusterAccess, KubeApi
from nimbusguard.contract.errors import InvalidRequest, Unavailable
from nimbusguard.environment import InvalidSetting
from nimbusguard.telemetry.logs import JsonFormatter
from nimbusguard.telemetry.settings import tracing_settings
from tests.live.processes import wait_until
from tests.service.processes import MODEL, running
from tests.serving.in_process import ROW
from transformer.settings import transformer_settings

TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.bearer-of-a-pod"  # noqa: S105 - made up
PASSWORD: Final = "s3cr3t-of-prometheus"  # noqa: S105 - made up
STORAGE_KEY: Final = "wJalrXUtnFEMIK7MDENGbPxRfiCYSTORAGEKEY"
SECRETS: Final = (TOKEN, PASSWORD, STORAGE_KEY)
NOBODY: Final = "127.0.0.1:9"
"""The discard port: nothing listens there."""
AWAY: Final = {
    "PROMETHEUS_ENDPOINT": f"http://scraper:{PASSWORD}@{NOBODY}",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": STORAGE_KEY,
    "AWS_ENDPOINT_URL": f"http://{NOBODY}",
    "AWS_MAX_ATTEMPTS": "1",
}


def leaked(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


async def test_a_bearer_token_is_in_no_line_of_any_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if everything speaks at debug while the API server is away."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    access = ClusterAccess(server=f"http://{NOBODY}", token_file=token)
    kube = KubeApi(access, timeout_s=2.0)
    log = logging.getLogger("test")
    with caplog.at_level(logging.DEBUG):
        try:
            await kube.get("/api")
        except Unavailable:
            log.exception("round failed")
        finally:
            await kube.aclose()

    lines = [JsonFormatter("operator").format(record) for record in caplog.records]
    assert any("round failed" in line for line in lines)
    assert leaked("\n".join(lines)) == []


def test_a_refused_setting_does_not_show_its_password() -> None:
    """The message names key and rule; who reads it may not be who may know the password."""
    for read, key in (
        (transformer_settings, "PROMETHEUS_ENDPOINT"),
        (tracing_settings, "NIMBUSGUARD_TRACING_ENDPOINT"),
    ):
        with pytest.raises(InvalidRequest, match=r"\*\*\*@host") as caught:
            read({key: f"ftp://scraper:{PASSWORD}@host"})
        assert isinstance(caught.value, InvalidSetting)
        assert leaked(str(caught.value)) == []


@pytest.mark.service
def test_no_credential_is_in_the_log_or_an_answer_of_the_servers(tmp_path: Path) -> None:
    """At debug, with Prometheus away and a caller that sends a token."""
    log = tmp_path / "transformer.jsonl"
    environ = AWAY | {"NIMBUSGUARD_LOG_LEVEL": "debug"}
    named = {"workload": {"namespace": "shop", "deployment": "web"}}
    with (
        running("predictor", tmp_path / "predictor.jsonl", environ=environ) as predictor,
        running(
            "transformer",
            log,
            f"--predictor_host=127.0.0.1:{predictor.http_port}",
            environ=environ,
        ) as transformer,
        httpx.Client(trust_env=False, headers={"authorization": f"Bearer {TOKEN}"}) as client,
    ):
        url = f"{transformer.url}/v1/models/{MODEL}"
        refused = client.post(f"{url}:predict", json={"instances": [named]}, timeout=10)
        for route in ("predict", "explain"):
            answer = client.post(f"{url}:{route}", json={"instances": [ROW]}, timeout=10)
            assert answer.status_code == httpx.codes.OK
        wait_until("the request's line", lambda: '"status":503' in log.read_text(), 10)
        wait_until("that of why", lambda: '"route":"v1_explain"' in log.read_text(), 10)

    assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert NOBODY in refused.text
    texts = [refused.text, *(path.read_text() for path in tmp_path.glob("*.jsonl"))]
    assert leaked("\n".join(texts)) == []


@pytest.mark.service
def test_no_credential_is_in_the_log_of_the_operator(tmp_path: Path) -> None:
    """With Prometheus, the API server and the model store away; its rounds fail and say so."""
    log = tmp_path / "operator.jsonl"
    environ = AWAY | {
        "KSERVE_ENDPOINT": f"http://caller:{PASSWORD}@{NOBODY}",
        "AUTOSCALER_KUBE_API": f"http://{NOBODY}",
        "AUTOSCALER_LISTEN": "127.0.0.1",
        "AUTOSCALER_PORT": "0",
        "AUTOSCALER_MODEL_STORE": "s3://models/nimbusguard",
        "AUTOSCALER_EXPERIENCE_STORE": str(tmp_path / "experience.db"),
        "AUTOSCALER_EXPORT_TO": "s3://experience/export",
    }
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "autoscaler"],
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            wait_until("a round that failed", lambda: log.read_text().count("\n") >= 3, 30)
        finally:
            process.terminate()
            process.communicate(timeout=30)

    text = log.read_text()
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            assert json.loads(line)["component"] == "operator"
    assert leaked(text) == []
