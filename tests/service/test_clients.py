"""Clients that know nothing of us, as they are: curl, the SDK's own, Triton's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from tests.service.bad_requests import DATA, PREDICT, good
from tests.service.processes import MODEL, ROOT, VERSION, Server
from tests.service.reference import Asked, best_action, expected, torch_q_values

pytestmark = pytest.mark.service

RAW = good("v1/array")["instances"][0]
STATE = good("v1/states")["instances"][0]
TOLERANCE = 1e-6


def wanted(service: str) -> np.ndarray:
    """The Q-values of the row that all clients send."""
    state = STATE if service == "predictor" else expected(Asked(tuple(RAW))).state
    return torch_q_values(np.array([state], dtype=np.float32))


def q_values_of_v1(document: Any, service: str) -> np.ndarray:
    (prediction,) = document["predictions"]
    return np.array([prediction if service == "predictor" else prediction["q_values"]])


# curl


def curl(server: Server, path: str, *flags: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of an unmodified curl."""
    program = shutil.which("curl")
    assert program, "curl is in every Debian; install it"
    result = subprocess.run(
        [program, "-sS", "--max-time", "20", "-D", "-", *flags, server.url + path],
        capture_output=True,
        text=True,
        check=True,
    )
    *heads, body = result.stdout.replace("\r\n", "\n").split(
        "\n\n", result.stdout.count("HTTP/1.1")
    )
    lines = heads[-1].split("\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), body, headers


def predict_file(server: Server) -> str:
    return str(DATA / "v1" / ("states.json" if server.module == "predictor" else "named.json"))


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((), id="as a form, its default"),
        pytest.param(("-H", "Content-Type: application/json"), id="as JSON"),
        pytest.param(("-H", "Content-Type: application/json; charset=utf-8"), id="with a charset"),
        pytest.param(("-H", "Content-Type:"), id="without a content type"),
        pytest.param(("-H", "Content-Type: text/plain"), id="as text"),
        pytest.param(("--http2",), id="with an upgrade to HTTP/2"),
        pytest.param(("--http1.0",), id="over HTTP/1.0"),
        pytest.param(("-H", "Transfer-Encoding: chunked"), id="in chunks"),
        pytest.param(("-H", "Expect: 100-continue"), id="waiting to be waved on"),
        pytest.param(("-H", "Connection: close"), id="closing"),
        pytest.param(("--compressed",), id="accepting compressed answers"),
    ],
)
def test_curl_is_answered(either_service: Server, flags: tuple[str, ...]) -> None:
    """A body is JSON if it can be parsed as such, whatever its content type says."""
    status, body, headers = curl(
        either_service, PREDICT, *flags, "--data-binary", f"@{predict_file(either_service)}"
    )

    assert status == 200
    assert headers["content-type"] == "application/json"
    q_values = q_values_of_v1(json.loads(body), either_service.module)
    assert np.abs(q_values - wanted(either_service.module)).max() <= TOLERANCE


@pytest.mark.parametrize("flags", [(), ("--http2",), ("-H", "Transfer-Encoding: chunked")])
def test_curl_sends_a_large_body(
    either_service: Server, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Curl waits for `100 Continue` before more than a megabyte; 10,000 rows come back."""
    row = STATE if either_service.module == "predictor" else RAW
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"instances": [[f"{x:.15f}" for x in row]] * 10_000}))
    if either_service.module == "predictor":
        file.write_text(file.read_text().replace('"0.', "0.").replace('",', ",").replace('"]', "]"))
    assert file.stat().st_size > 1_500_000

    status, body, _ = curl(either_service, PREDICT, *flags, "--data-binary", f"@{file}")

    assert status == 200
    assert len(json.loads(body)["predictions"]) == 10_000


@pytest.mark.parametrize("size", [9_000_000, 70_000_000])
@pytest.mark.parametrize("flags", [(), ("-H", "Expect:")], ids=["waiting", "not waiting"])
def test_curl_is_told_that_a_body_is_too_large(
    either_service: Server, tmp_path: Path, size: int, flags: tuple[str, ...]
) -> None:
    """413 reaches a client that is still sending, even more than is worth reading."""
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(size)

    status, body, _ = curl(either_service, PREDICT, *flags, "--data-binary", f"@{file}")

    assert status == 413
    assert f"got {size}" in json.loads(body)["error"]


def test_curl_gets_several_answers_over_one_connection(either_service: Server) -> None:
    """An error in between does not cost the connection."""
    url = either_service.url
    result = subprocess.run(
        ["curl", "-sSv", f"{url}/v2", f"{url}{PREDICT}", f"{url}/nowhere", f"{url}/v2"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stderr.count("Re-using existing connection") == 3
    assert result.stderr.count("< HTTP/1.1 ") == 4


@pytest.mark.parametrize(
    "path", ["/v2/models/{}/infer", f"/v2/models/{{}}/versions/{VERSION}/infer"]
)
def test_curl_asks_by_v2_and_by_version(either_service: Server, path: str) -> None:
    """The loaded version answers under its number."""
    name = "state.json" if either_service.module == "predictor" else "raw-metrics.json"

    status, body, _ = curl(
        either_service, path.format(MODEL), "--data-binary", f"@{DATA / 'v2' / name}"
    )

    answer = json.loads(body)
    assert status == 200
    assert answer["model_version"] == VERSION
    assert answer["parameters"]["fingerprint"].startswith("sha256:")
    (output,) = (output for output in answer["outputs"] if output["name"] == "q_values")
    assert np.abs(np.array([output["data"]]) - wanted(either_service.module)).max() <= TOLERANCE


# The SDK's clients


def sdk_request(service: str, *, binary: bool) -> InferRequest:
    row = STATE if service == "predictor" else RAW
    name = "state" if service == "predictor" else "raw_metrics"
    tensor = InferInput(name=name, shape=[1, 11], datatype="FP32")
    tensor.set_data_from_numpy(np.array([row], dtype=np.float32), binary_data=binary)
    return InferRequest(model_name=MODEL, infer_inputs=[tensor], request_id="7")


async def test_the_sdk_asks_by_v1(either_service: Server) -> None:
    """`InferenceRESTClient` with its default protocol."""
    body = good("v1/states" if either_service.module == "predictor" else "v1/named")

    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        answer = await client.infer(either_service.url, body, model_name=MODEL)

    q_values = q_values_of_v1(answer, either_service.module)
    assert np.abs(q_values - wanted(either_service.module)).max() <= TOLERANCE


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
async def test_the_sdk_asks_by_v2(either_service: Server, binary: bool) -> None:
    """Metadata, readiness and inference, JSON and binary."""
    service, url = either_service.module, either_service.url

    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, MODEL)
        answer = await client.infer(url, sdk_request(service, binary=binary), model_name=MODEL)

    (output,) = (output for output in answer.outputs if output.name == "q_values")
    assert np.abs(output.as_numpy() - wanted(service)).max() <= TOLERANCE
    assert answer.id == "7"
    assert answer.parameters["model_version"] == VERSION  # the SDK drops the field itself


@pytest.mark.parametrize("binary", [False, True], ids=["typed", "raw"])
async def test_the_sdk_asks_by_grpc(either_service: Server, binary: bool) -> None:
    """`InferenceGRPCClient`, with typed and with raw contents."""
    service = either_service.module

    async with InferenceGRPCClient(either_service.grpc_target) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(MODEL)
        answer = await client.infer(sdk_request(service, binary=binary))

    (output,) = (output for output in answer.outputs if output.name == "q_values")
    assert np.abs(output.as_numpy() - wanted(service)).max() <= TOLERANCE


# Triton's clients


def test_triton_asks_over_http_and_grpc(either_service: Server) -> None:
    """Health, metadata and inference with JSON, binary and gRPC; errors arrive as its own."""
    service = either_service.module
    is_predictor = service == "predictor"
    script = Path(__file__).with_name("triton_client.py")
    result = subprocess.run(
        [
            *(sys.executable, str(script)),
            f"127.0.0.1:{either_service.http_port}",
            either_service.grpc_target,
            MODEL,
            "state" if is_predictor else "raw_metrics",
            "FP32" if is_predictor else "FP64",
            json.dumps([STATE if is_predictor else RAW]),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )

    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    outputs = (
        ["q_values"] if is_predictor else ["action", "action_index", "q_values", "target_replicas"]
    )
    for protocol in ("http", "grpc"):
        assert found[protocol]["live"] is found[protocol]["ready"] is True
        assert found[protocol]["model_ready"] is True
        assert found[protocol]["server"] == f"nimbusguard-{service}"
        assert found[protocol]["model"] == MODEL
        assert "expected 'nimbusguard-dqn'" in found[protocol]["error"]
    for protocol, form in (("http", "json"), ("http", "binary"), ("grpc", "binary")):
        q_values = np.array(found[protocol][form])
        assert np.abs(q_values - wanted(service)).max() <= TOLERANCE
        assert found[protocol][f"{form}_id"] == "7"
        assert found[protocol][f"{form}_outputs"] == outputs
    if not is_predictor:
        action = best_action(wanted(service)[0].tolist(), expected(Asked(tuple(RAW))).allowed)
        assert found["http"]["json_actions"] == found["http"]["binary_actions"] == [action]
