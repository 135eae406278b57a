"""How both services behave over REST: routes, ids, versions, metadata, connections, logs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nimbusguard import __version__
from nimbusguard.contract.fingerprint import FINGERPRINT
from tests.service.bad_requests import INFER, PREDICT, good
from tests.service.processes import MODEL, VERSION, Server
from tests.service.wire import Wire, request_bytes

pytestmark = pytest.mark.service

DURATION = "nimbusguard_request_duration_seconds"
GETS = {
    "/": {"status": "alive"},
    "/v1/models": {"models": [MODEL]},
    f"/v1/models/{MODEL}": {"name": MODEL, "ready": True},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
    "/v2/models": {"models": [MODEL]},
    f"/v2/models/{MODEL}/ready": {"name": MODEL, "ready": True},
    f"/v2/models/{MODEL}/versions/{VERSION}/ready": {"name": MODEL, "ready": True},
}
TENSORS: dict[str, dict[str, Any]] = {
    "predictor": {
        "platform": "pytorch_torchscript",
        "inputs": [{"name": "state", "datatype": "FP32", "shape": [-1, 11]}],
        "outputs": [{"name": "q_values", "datatype": "FP32", "shape": [-1, 5]}],
    },
    "transformer": {
        "platform": "nimbusguard_transformer",
        "inputs": [
            {"name": "raw_metrics", "datatype": "FP64", "shape": [-1, 11]},
            {"name": "current_replicas", "datatype": "INT64", "shape": [-1]},
            {"name": "min_replicas", "datatype": "INT64", "shape": [-1]},
            {"name": "max_replicas", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [
            {"name": "action_index", "datatype": "INT64", "shape": [-1]},
            {"name": "action", "datatype": "BYTES", "shape": [-1]},
            {"name": "target_replicas", "datatype": "INT64", "shape": [-1]},
            {"name": "q_values", "datatype": "FP32", "shape": [-1, 5]},
        ],
    },
}


@pytest.fixture
def wire(either_service: Server) -> Iterator[Wire]:
    with Wire(either_service.http_port) as connection:
        yield connection


def v1_body(server: Server) -> bytes:
    return json.dumps(good("v1/states" if server.module == "predictor" else "v1/named")).encode()


def v2_body(server: Server, **changes: Any) -> bytes:
    document = good("v2/state" if server.module == "predictor" else "v2/raw-metrics")
    return json.dumps(document | changes).encode()


@pytest.mark.parametrize("path", GETS)
def test_a_route_answers(wire: Wire, path: str) -> None:
    """Health and lists; with a trailing slash or percent-encoded, it is the same route."""
    for spelling in (path, path.rstrip("/") + "/", path + "?verbose=1", path.replace("s", "%73")):
        answer = wire.ask("GET", spelling)
        assert (answer.status, answer.json()) == (200, GETS[path])
    head = wire.ask("HEAD", path)
    assert head.status == 200
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("suffix", ["", f"/versions/{VERSION}"])
def test_metadata_has_real_names_shapes_and_versions(
    wire: Wire, either_service: Server, suffix: str
) -> None:
    """Of the model, and of the server."""
    model = wire.ask("GET", f"/v2/models/{MODEL}{suffix}").json()
    server = wire.ask("GET", "/v2").json()

    assert model == {"name": MODEL, "versions": [VERSION], **TENSORS[either_service.module]}
    assert server == {
        "name": f"nimbusguard-{either_service.module}",
        "version": __version__,
        "extensions": ["binary_tensor_data"],
    }


def test_every_answer_says_which_network_gave_it(wire: Wire, either_service: Server) -> None:
    """Version and fingerprint, in the parameters of V2 and in each V1 decision."""
    answer = wire.ask("POST", INFER, v2_body(either_service)).json()

    assert answer["model_name"] == MODEL
    assert answer["model_version"] == VERSION
    assert answer["parameters"] == {"model_version": VERSION, "fingerprint": FINGERPRINT}
    if either_service.module == "transformer":
        (decision,) = wire.ask("POST", PREDICT, v1_body(either_service)).json()["predictions"]
        assert (decision["model_version"], decision["fingerprint"]) == (VERSION, FINGERPRINT)


def test_an_id_is_echoed_and_none_is_invented(wire: Wire, either_service: Server) -> None:
    """The `id` of a V2 request."""
    with_id = wire.ask("POST", INFER, v2_body(either_service, id="a/ü")).json()
    without = wire.ask("POST", INFER, v2_body(either_service, id=None)).json()

    assert with_id["id"] == "a/ü"
    assert "id" not in without


def test_a_request_id_is_made_or_echoed(wire: Wire, either_service: Server) -> None:
    """On success and on failure alike."""
    asked = [
        ("GET", "/v2", b""),
        ("POST", PREDICT, v1_body(either_service)),
        ("POST", PREDICT, b"{}"),
        ("GET", "/nowhere", b""),
        ("PUT", "/v2", b""),
    ]

    made = [wire.ask(*request).headers["x-request-id"] for request in asked]
    echoed = [
        wire.ask(*request, {"X-Request-ID": "order 17"}).headers["x-request-id"]
        for request in asked
    ]

    assert len(set(made)) == len(asked)
    assert echoed == ["order 17"] * len(asked)


@pytest.mark.parametrize("action", ["load", "unload"])
def test_nobody_can_unload_the_model(wire: Wire, either_service: Server, action: str) -> None:
    """The SDK's repository routes are not there, and the model goes on answering."""
    answer = wire.ask("POST", f"/v2/repository/models/{MODEL}/{action}", b"{}")

    assert answer.status == 404
    assert wire.ask("POST", PREDICT, v1_body(either_service)).status == 200


def test_pipelined_requests_are_answered_in_order(wire: Wire, either_service: Server) -> None:
    """Good and bad, quick and slow; each answer belongs to its request."""
    ids = [f"request-{index}" for index in range(200)]
    bodies = [v1_body(either_service) if index % 3 else b"{" for index in range(200)]
    sent = [
        request_bytes("POST", PREDICT, body, {"X-Request-Id": request_id})
        for body, request_id in zip(bodies, ids, strict=True)
    ]

    writer = threading.Thread(target=wire.send, args=(b"".join(sent),))
    writer.start()
    answers = [wire.read() for _ in ids]
    writer.join()

    assert [answer.headers["x-request-id"] for answer in answers] == ids
    assert [answer.status for answer in answers] == [200 if i % 3 else 400 for i in range(200)]


def test_a_request_may_come_byte_by_byte(wire: Wire, either_service: Server) -> None:
    """As over a slow line."""
    for byte in request_bytes("POST", PREDICT, v1_body(either_service)):
        wire.send(bytes([byte]))

    assert wire.read().status == 200


def test_a_half_closed_connection_gets_its_answer(wire: Wire, either_service: Server) -> None:
    """The caller has said all it has to say."""
    wire.send(request_bytes("POST", PREDICT, v1_body(either_service)))
    wire.socket.shutdown(socket.SHUT_WR)

    assert wire.read().status == 200
    assert wire.is_closed()


def test_a_caller_who_breaks_off_harms_nobody(either_service: Server) -> None:
    """In the middle of the head, of the body, and before the answer."""
    whole = request_bytes("POST", PREDICT, v1_body(either_service))
    for part in (whole[:10], whole[:-10], whole):
        with Wire(either_service.http_port) as broken:
            broken.send(part)

    with Wire(either_service.http_port) as wire:
        assert wire.ask("POST", PREDICT, v1_body(either_service)).status == 200


def test_a_bad_row_does_not_spoil_its_neighbours(either_service: Server) -> None:
    """Requests that share a batch: the good ones are answered, the bad ones refused."""
    is_predictor = either_service.module == "predictor"
    bad = json.dumps({"instances": [[0.5] * 10 + [7 if is_predictor else None]]}).encode()
    wires = [Wire(either_service.http_port) for _ in range(60)]

    for index, wire in enumerate(wires):
        body = v1_body(either_service) if index % 2 else bad
        wire.send(request_bytes("POST", PREDICT, body))
    statuses = [wire.read().status for wire in wires]
    for wire in wires:
        wire.close()

    assert statuses == [400, 200] * 30


def test_requests_leave_no_line_in_the_log(wire: Wire, either_service: Server) -> None:
    """At the default level there is one line about listening, and none for each request."""
    for _ in range(3):
        wire.ask("POST", PREDICT, v1_body(either_service))
        wire.ask("POST", PREDICT, b"{")

    assert [line["message"] for line in either_service.log()] == ["listening"]


def test_metrics_count_requests_by_route_and_status(wire: Wire, either_service: Server) -> None:
    """A counter by route and status, and sub-millisecond buckets."""
    wire.ask("POST", PREDICT, v1_body(either_service))
    wire.ask("POST", PREDICT, b"{")

    answer = wire.ask("GET", "/metrics")

    text = answer.body.decode()
    labels = f'component="{either_service.module}",model_name="{MODEL}",route="v1_predict"'
    assert f'nimbusguard_model_serving_requests_total{{{labels},status="200"}}' in text
    assert f'nimbusguard_model_serving_requests_total{{{labels},status="400"}}' in text
    buckets = [line for line in text.splitlines() if line.startswith(f"{DURATION}_bucket")]
    assert any('route="v1_predict"' in line and 'le="0.0001"' in line for line in buckets)
    assert answer.headers["content-type"].startswith("text/plain")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    openmetrics = wire.ask("GET", "/metrics", headers=accept)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")


def _send_until_stuck(wire: Wire, request: bytes, *, at_most: int) -> int:
    for sent in range(at_most):
        try:
            wire.send(request)
        except TimeoutError:
            return sent
    return at_most


def test_a_caller_who_does_not_read_is_not_served_for_ever(either_service: Server) -> None:
    """Its answers fill what the kernel holds; then the server stops reading from it.

    The server would otherwise keep every answer in memory: 100 MB of them for these requests.
    """
    row = [0.5] * 11 if either_service.module == "predictor" else good("v1/array")["instances"][0]
    request = request_bytes("POST", PREDICT, json.dumps({"instances": [row] * 2000}).encode())
    with Wire(either_service.http_port) as greedy:
        greedy.socket.settimeout(0.5)

        sent = _send_until_stuck(greedy, request, at_most=2000)

        assert sent < 1000
        with Wire(either_service.http_port) as wire:
            began = time.perf_counter()
            assert wire.ask("POST", PREDICT, v1_body(either_service)).status == 200
            assert time.perf_counter() - began < 10
