"""The predictor on a real Ray cluster of two nodes, one replica on each."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from tests.service.load import End, Load, running_load
from tests.service.processes import MODEL, ROOT, Server, clean_environ, command, running, until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(400)]

PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
METRICS = json.dumps({"instances": [[0.9, 0.5, 1e3, 80, 4, 0.1, 0, 3, 0.1, 0.4, 0.5]]}).encode()
START_S = 120.0


class RayPredictor(NamedTuple):
    """The application, and where its parts are."""

    http_port: int
    grpc_port: int
    metrics_ports: tuple[int, ...]
    driver: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def ray_predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayPredictor]:
    """Two nodes with a core each, two replicas that need a core each: one replica a node."""
    folder = tmp_path_factory.mktemp("ray")
    ports = _free_ports(4)
    environ = clean_environ(
        {
            "NIMBUSGUARD_RAY_MIN_REPLICAS": "2",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[2]),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[3]),
        }
    )
    with ExitStack() as stack:
        cluster = stack.enter_context(_cluster(environ))
        flags = (f"--http_port={ports[0]}", f"--grpc_port={ports[1]}")
        with (folder / "log").open("wb") as log:
            driver = subprocess.Popen(
                command("predictor.ray_main", *flags),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**environ, "RAY_ADDRESS": cluster["address"]},
            )
        stack.callback(_stop, driver)
        url = f"http://127.0.0.1:{ports[0]}/v1/models/{MODEL}"
        until(lambda: driver.poll() is not None or _is_ok(url), "the application", START_S)
        assert driver.poll() is None, (folder / "log").read_text()[-3000:]
        yield RayPredictor(ports[0], ports[1], tuple(cluster["metrics_ports"]), driver)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", PREDICT, {"instances": [[0.5] * 11, [0.1] * 11]}),
        ("POST", PREDICT, {"instances": [[0.5] * 10]}),
        ("POST", PREDICT, {"instances": [[1.5] * 11]}),
        ("POST", PREDICT, {"rows": []}),
        ("POST", PREDICT, [1]),
        ("POST", "/v1/models/other:predict", {"instances": []}),
        (
            "POST",
            INFER,
            {
                "inputs": [
                    {"name": "state", "datatype": "FP32", "shape": [1, 11], "data": [0.5] * 11}
                ]
            },
        ),
        ("POST", INFER, {"inputs": []}),
        ("POST", f"/v2/models/{MODEL}/versions/999/infer", {"inputs": []}),
        ("GET", PREDICT, None),
        ("GET", f"/v1/models/{MODEL}", None),
        ("GET", f"/v2/models/{MODEL}", None),
        ("GET", "/v2/health/ready", None),
        ("POST", "/v2/repository/models/nimbusguard-dqn/unload", {}),
    ],
)
def test_a_replica_answers_like_the_plain_predictor(
    ray_predictor: RayPredictor, predictor: Server, method: str, path: str, body: Any
) -> None:
    """The same status and the same bytes, errors included."""
    content = None if body is None else json.dumps(body).encode()
    with httpx.Client(timeout=30.0) as client:
        ours = client.request(method, predictor.url + path, content=content)
        url = f"http://127.0.0.1:{ray_predictor.http_port}{path}"
        theirs = client.request(method, url, content=content)

    assert (theirs.status_code, theirs.content) == (ours.status_code, ours.content)
    assert theirs.headers["content-type"] == ours.headers["content-type"]
    assert len(theirs.headers.get_list("x-request-id")) == 1


def test_grpc_answers_like_the_plain_predictor(
    ray_predictor: RayPredictor, predictor: Server
) -> None:
    """Values, version and fingerprint; and the status of a caller's mistake."""
    answers = []
    for port in (ray_predictor.grpc_port, predictor.grpc_port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            answer = stub.ModelInfer(_request(MODEL), timeout=30)
            with pytest.raises(grpc.RpcError) as unknown:
                stub.ModelInfer(_request("other"), timeout=30)
            answers.append(
                (
                    answer.model_version,
                    answer.parameters["fingerprint"].string_param,
                    answer.raw_output_contents[0],
                    unknown.value.code(),
                    unknown.value.details(),
                )
            )

    assert answers[0] == answers[1]


def test_metrics_tell_the_replicas_apart(ray_predictor: RayPredictor) -> None:
    """Ray's own scrape of its nodes shows our counter once for each replica."""
    body = json.dumps({"instances": [[0.5] * 11]}).encode()

    def replicas() -> set[str]:
        with httpx.Client(timeout=30.0) as client:
            for _ in range(20):
                client.post(f"http://127.0.0.1:{ray_predictor.http_port}{PREDICT}", content=body)
        text = "".join(_get(f"http://127.0.0.1:{p}/metrics") for p in ray_predictor.metrics_ports)
        lines = [
            line
            for line in text.splitlines()
            if line.startswith("ray_nimbusguard_ray_requests") and 'route="v1_predict"' in line
        ]
        return {found[1] for line in lines if (found := re.search(r'replica="([^"]+)"', line))}

    until(lambda: len(replicas()) == 2, "both replicas in Ray's metrics", START_S)


async def test_a_killed_replica_costs_nothing_but_503(
    ray_predictor: RayPredictor, tmp_path: Path
) -> None:
    """Kill -9 under load, through a transformer: 200 and 503 alone, and both replicas come back."""
    flag = f"--predictor_host=127.0.0.1:{ray_predictor.http_port}"
    with running("transformer", tmp_path / "log.jsonl", flag) as transformer:
        async with running_load(transformer.http_port, PREDICT, METRICS, connections=16) as load:
            await _until(lambda: _answers(load, 200) > 200, "answers before the kill")
            before = _replica_pids()
            assert len(before) == 2
            os.kill(before.pop(), signal.SIGKILL)
            killed = time.perf_counter()
            await _until(
                lambda: sum(outcome.status == 200 for outcome in load.since(killed)) > 500,
                "answers after the kill",
            )
            await _until(lambda: len(_replica_pids()) == 2, "a new replica", START_S)

    assert load.count(End.ANSWERED) == len(load.outcomes)
    assert {outcome.status for outcome in load.outcomes} <= {200, 503}
    good = sorted(outcome.began for outcome in load.outcomes if outcome.status == 200)
    gaps = np.diff([moment for moment in good if moment >= killed - 1.0])
    assert gaps.max() < 2.0, "no two seconds without an answer"


@contextmanager
def _cluster(environ: dict[str, str]) -> Iterator[dict[str, Any]]:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.ray_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()  # it stops by itself, and takes its nodes along
            try:
                process.wait(60.0)
            except subprocess.TimeoutExpired:
                process.kill()


def _stop(driver: subprocess.Popen[bytes]) -> None:
    driver.terminate()
    try:
        driver.wait(60.0)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()


def _replica_pids() -> set[int]:
    """The processes that hold a replica of ours; Ray names them so."""
    pids = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if name.startswith(b"ray::ServeReplica:nimbusguard-predictor"):
                pids.add(int(folder.name))
    return pids


def _request(name: str) -> Any:
    request = pb.ModelInferRequest(model_name=name)
    request.inputs.add(name="state", datatype="FP32", shape=[2, 11])
    request.raw_input_contents.append(np.full((2, 11), 0.5, dtype=np.float32).tobytes())
    return request


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


def _is_ok(url: str) -> bool:
    try:
        _get(url)
    except OSError:
        return False
    return True


def _answers(load: Load, status: int) -> int:
    return sum(outcome.status == status for outcome in load.outcomes)


async def _until(condition: Any, what: str, timeout_s: float = 60.0) -> None:
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > timeout_s:
            pytest.fail(f"expected within {timeout_s:g} s: {what}")
        await asyncio.sleep(0.05)
