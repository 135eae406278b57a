"""No secret reaches the log, and a decision is one line."""

from __future__ import annotations

import json
import logging

import pytest

from autoscaler.arms import Arm
from autoscaler.logs import log_decision
from autoscaler.tracing import evaluation as one_evaluation
from nimbusguard.telemetry.logs import JsonFormatter, redact
from serving.calls import Trace
from serving.grpc_server import InferenceServicer
from serving.metrics import ServingMetrics
from tests.autoscaler.test_status import evaluation
from tests.service.processes import VERSION
from tests.serving.in_process import predictor_service


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("http://user:secret@prometheus:9090/x", "http://***@prometheus:9090/x"),
        ("s3 https://key:s3cr3t@host", "s3 https://***@host"),
        ("authorization: Bearer abcdefgh.ijkl", "authorization: Bearer ***"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("a@b and http://host/path@version", "a@b and http://host/path@version"),
    ],
)
def test_credentials_are_hidden(text: str, hidden: str) -> None:
    """Those of URLs and of headers; everything else stays."""
    assert redact(text) == hidden


def test_a_line_with_credentials_stays_json() -> None:
    """In the message and in fields alike."""
    record = logging.LogRecord("x", logging.INFO, "f", 1, 'at "%s"', ("http://u:p@h/",), None)
    record.endpoint = "https://u:p@h:1"

    line = json.loads(JsonFormatter("operator").format(record))

    assert line["message"] == 'at "http://***@h/"'
    assert line["endpoint"] == "https://***@h:1"


def test_a_decision_is_one_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Who, what, why, and the request id of its evaluation; what is empty is left out."""
    with caplog.at_level(logging.INFO), one_evaluation(None, 1) as whole:
        log_decision(evaluation(name="web"), Arm.STABLE, None)

    (record,) = caplog.records
    line = json.loads(JsonFormatter("operator").format(record))
    assert line["message"] == "decision"
    assert line["request_id"] == whole.request_id
    assert (line["namespace"], line["policy"]) == ("shop", "web")
    assert line["workload"] == "Deployment/web"
    assert (line["source"], line["action"], line["applied"]) == ("kserve", "SCALE_UP_1", True)
    assert line["target_replicas"] - line["current_replicas"] == 1
    assert "trace_id" not in line
    assert "problem" not in line


def test_an_answer_over_grpc_is_a_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """With the fields that an answer over REST has."""
    servicer = InferenceServicer(predictor_service(), ServingMetrics("predictor", "m"))
    trace = Trace(b"asked-1", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")

    servicer._observe("grpc_explain", "OK", 0.25, trace)
    with caplog.at_level(logging.DEBUG):
        servicer._observe("grpc_explain", "OK", 0.25, trace)

    (record,) = caplog.records
    line = json.loads(JsonFormatter("predictor").format(record))
    assert (line["message"], line["route"], line["status"]) == ("request", "grpc_explain", "OK")
    assert (line["request_id"], line["seconds"], line["model_version"]) == (
        "asked-1",
        0.25,
        VERSION,
    )
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
