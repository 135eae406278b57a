"""What the operator tells others: metrics, probes and log lines."""

from __future__ import annotations

import json
import logging
import sys

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from autoscaler.arms import Arm
from autoscaler.logs import configure
from autoscaler.metrics import OperatorMetrics
from autoscaler.policy_spec import Mode
from autoscaler.web import serve
from nimbusguard.client.validation import Check, Outcome, Report
from nimbusguard.telemetry.logs import JsonFormatter
from tests.autoscaler.harness import policy
from tests.autoscaler.test_status import evaluation


@pytest.fixture
def metrics() -> OperatorMetrics:
    return OperatorMetrics(CollectorRegistry())


def sample(metrics: OperatorMetrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_each_check_of_a_validation_is_a_number(metrics: OperatorMetrics) -> None:
    """1 passed, 0 failed, -1 could not be made."""
    report = Report(version="2", ready=Check(Outcome.PASSED), q_values=Check(Outcome.FAILED))

    metrics.saw_validation(Arm.STABLE, report)

    found = {
        check: sample(metrics, "nimbusguard_model_validation", arm="stable", check=check)
        for check in report.checks
    }
    assert found == {"ready": 1.0, "fingerprint": -1.0, "version": -1.0, "q_values": 0.0}


def test_rules_and_flaws_are_counted(metrics: OperatorMetrics) -> None:
    """By name."""
    metrics.saw_evaluation(evaluation(raw=(float("nan"),) * 11, max_replicas=3))

    rule = sample(metrics, "nimbusguard_operator_rules_total", rule="BOUNDS")
    flaw = sample(metrics, "nimbusguard_operator_flawed_readings_total", flaw="missing")
    assert (rule, flaw) == (1.0, 1.0)


def test_a_policy_that_was_never_evaluated_may_be_removed(metrics: OperatorMetrics) -> None:
    """It has no wish to take back."""
    metrics.saw_removal(policy("unknown"))

    assert b'name="unknown"' not in generate_latest(metrics.registry)


def test_policies_are_counted_by_mode(metrics: OperatorMetrics) -> None:
    """Also those that are no more."""
    metrics.saw_policies({Mode.ACT: 2, None: 1})
    metrics.saw_policies({Mode.ADVISE: 1})

    found = {
        mode: sample(metrics, "nimbusguard_operator_policies", mode=mode)
        for mode in ("shadow", "advise", "act", "refused")
    }
    assert found == {"shadow": 0.0, "advise": 1.0, "act": 0.0, "refused": 0.0}


async def test_probes_and_metrics_are_served(metrics: OperatorMetrics) -> None:
    """503 is what the kubelet acts on."""
    state = {"alive": True, "ready": False}
    runner, port = await serve(
        "127.0.0.1",
        0,
        metrics.registry,
        alive=lambda: state["alive"],
        ready=lambda: state["ready"],
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False
        ) as client:
            found = [(await client.get(path)).status_code for path in ("/healthz", "/readyz")]
            page = await client.get("/metrics")
    finally:
        await runner.cleanup()

    assert found == [200, 503]
    assert page.headers["content-type"].startswith("text/plain")
    assert "nimbusguard_operator_is_leader 0.0" in page.text


def test_a_log_line_is_json_with_its_fields() -> None:
    """Whatever was given as `extra`, and the traceback where there is one."""
    record = logging.LogRecord("autoscaler", logging.INFO, "f", 1, "scaled %s", ("web",), None)
    record.policy = "shop/web"
    line = json.loads(JsonFormatter("operator").format(record))
    assert (line["level"], line["message"], line["policy"]) == ("info", "scaled web", "shop/web")
    assert "traceback" not in line

    try:
        int("no number")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError" in json.loads(JsonFormatter("operator").format(record))["traceback"]


def test_the_framework_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of it for every change of every policy would bury ours."""
    root, level = logging.getLogger(), logging.getLogger("kopf").level
    handlers, root_level = root.handlers[:], root.level
    try:
        configure()
        logging.getLogger("kopf.objects").info("handler succeeded")
        logging.getLogger("autoscaler").info("scaled")
        printed = capsys.readouterr().err
    finally:
        root.handlers[:] = handlers
        root.setLevel(root_level)
        for name in ("kopf", "httpx", "aiohttp"):
            logging.getLogger(name).setLevel(level)

    assert [json.loads(line)["message"] for line in printed.splitlines()] == ["scaled"]
