"""The five named metrics: pushed to a real Pushgateway, scraped by a real Prometheus, queried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.live.processes import wait_until
from tests.pipelines.gateway import pushgateway
from tests.pipelines.history import number, prometheus
from tests.service.processes import Server
from training.components import run_close
from training.telemetry import EXPERIMENTS, MODEL_ACCURACY, TRAINING_DURATION, Pushgateway

pytestmark = pytest.mark.service


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """A Pushgateway; its address."""
    with pushgateway(tmp_path / "gateway") as url:
        yield url


def test_the_five_named_metrics_are_found_by_a_query(
    gateway: str, transformer: Server, tmp_path: Path
) -> None:
    """Four from batch steps, one from the service, each with the value that was put in."""
    push = Pushgateway(gateway)
    run_close("SUCCEEDED", pushgateway=gateway)
    run_close("SUCCEEDED", pushgateway=gateway)
    run_close("FAILED", pushgateway=gateway)
    push.count(EXPERIMENTS, job="nimbusguard-tune", outcome="succeeded")
    push.gauge(TRAINING_DURATION, 12.5, job="nimbusguard-pipeline", seed="1")
    push.gauge(TRAINING_DURATION, 14.5, job="nimbusguard-pipeline", seed="2")
    push.gauge(MODEL_ACCURACY, 0.4, job="nimbusguard-pipeline", model="nimbusguard-dqn")
    push.gauge(MODEL_ACCURACY, 0.5, job="nimbusguard-pipeline", model="nimbusguard-dqn")
    body = {"instances": [[0.5, 0.4, 1e5, 50, 4, 0.1, 0, 2, 0, 0.4, 0.3]]}
    url = f"{transformer.url}/v1/models/nimbusguard-dqn:predict"
    assert httpx.post(url, json=body, timeout=10, trust_env=False).status_code == 200
    targets = [gateway.removeprefix("http://"), transformer.url.removeprefix("http://")]
    job = {
        "job_name": "all",
        "honor_labels": True,
        "scrape_interval": "1s",
        "static_configs": [{"targets": targets}],
    }

    expected = {
        'nimbusguard_pipeline_runs_total{outcome="succeeded"}': 2.0,
        'nimbusguard_pipeline_runs_total{outcome="failed"}': 1.0,
        'nimbusguard_hyperparameter_experiments_total{outcome="succeeded"}': 1.0,
        "max(nimbusguard_model_training_duration_seconds)": 14.5,
        'nimbusguard_model_accuracy{model="nimbusguard-dqn"}': 0.5,
        'count(sum(nimbusguard_model_serving_requests_total{route="v1_predict"}) > 0)': 1.0,
    }
    with prometheus(tmp_path / "prometheus", scrape=[job]) as server:
        for query, wanted in expected.items():
            wait_until(query, lambda q=query, w=wanted: number(server.url, q) == w, 30)  # type: ignore[misc]


def test_a_gateway_that_is_gone_is_told_of_and_fails_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Hours of training are not thrown away for a figure."""
    push = Pushgateway("http://127.0.0.1:9")

    assert not push.count(EXPERIMENTS, job="nimbusguard-tune", outcome="succeeded")
    assert not push.gauge(MODEL_ACCURACY, 0.5, job="nimbusguard-pipeline", model="m")
    assert capsys.readouterr().err.count("expected the figure to be taken") == 2


def test_without_a_gateway_nothing_is_pushed(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing is said."""
    assert not Pushgateway("").gauge(MODEL_ACCURACY, 0.5, job="nimbusguard-pipeline", model="m")
    assert capsys.readouterr().err == ""
