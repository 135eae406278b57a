"""A predictor at the level of the wire, which answers whatever a test tells it to.

It records what it is sent. Readiness probes are always answered well, so that what a test sees is
the fate of its own request.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from nimbusguard.contract.fingerprint import FINGERPRINT

PROBE_ID = "readiness-probe"
Q_VALUES = (-0.4, 0.1, 0.5, 0.9, 0.8)


class Asked(NamedTuple):
    """One request as the stand-in got it."""

    headers: dict[str, str]
    """By lower-case name; metadata, over gRPC."""
    rows: int
    gone: threading.Event
    """Set when the stand-in stops, so that nothing waits longer than its test."""


class Reply(NamedTuple):
    """An HTTP answer; a status of 0 sends `body` as it is and closes."""

    status: int
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


def tensors(rows: int, **changes: Any) -> Reply:
    """A good answer, or one that differs from it by some top-level keys."""
    data = list(Q_VALUES) * rows
    output = {"name": "q_values", "datatype": "FP32", "shape": [rows, 5], "data": data}
    document: dict[str, Any] = {
        "model_name": "nimbusguard-dqn",
        "model_version": "7",
        "parameters": {"model_version": "7", "fingerprint": FINGERPRINT},
        "outputs": [output | changes.pop("output", {})],
    }
    return Reply(200, json.dumps(document | changes).encode())


def binary_tensors(rows: int, tail: bytes, **output: Any) -> Reply:
    """A good answer with binary data, or one whose tensor differs."""
    size = {"binary_data_size": rows * 20}
    entry = {"name": "q_values", "datatype": "FP32", "shape": [rows, 5], "parameters": size}
    document = {
        "model_name": "nimbusguard-dqn",
        "model_version": "7",
        "parameters": {"fingerprint": FINGERPRINT},
        "outputs": [entry | output],
    }
    head = json.dumps(document).encode()
    return Reply(200, head + tail, {"Inference-Header-Content-Length": str(len(head))})


def grpc_answer(rows: int) -> pb.ModelInferResponse:
    """A good answer over gRPC."""
    answer = pb.ModelInferResponse(model_name="nimbusguard-dqn", model_version="7")
    answer.parameters["fingerprint"].string_param = FINGERPRINT
    answer.outputs.add(name="q_values", datatype="FP32", shape=[rows, 5])
    answer.raw_output_contents.append(np.array(Q_VALUES * rows, dtype="<f4").tobytes())
    return answer


@dataclass
class StandIn:
    """The stand-in of one protocol."""

    port: int = 0
    reply: Callable[[Asked], Any] | None = None
    """Makes the answer to a request; None for a good one."""
    asked: list[Asked] = field(default_factory=list)
    """All requests but probes."""
    gone: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        self.reply = None
        self.asked.clear()

    def answer(self, asked: Asked, good: Callable[[int], Any]) -> Any:
        if asked.headers.get("x-request-id") == PROBE_ID:
            return good(asked.rows)
        self.asked.append(asked)
        return self.reply(asked) if self.reply else good(asked.rows)


@contextmanager
def rest_stand_in() -> Iterator[StandIn]:
    """A predictor over V2 REST."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            head = json.loads(body[: int(headers["inference-header-content-length"])])
            rows = head["inputs"][0]["shape"][0]
            reply = stand_in.answer(Asked(headers, rows, stand_in.gone), tensors)
            if reply.status == 0:
                self.wfile.write(reply.body)
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A caller that did not wait for its answer is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        stand_in.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield stand_in
        finally:
            stand_in.gone.set()
            server.shutdown()
            thread.join()


@contextmanager
def grpc_stand_in() -> Iterator[StandIn]:
    """A predictor over V2 gRPC."""
    stand_in = StandIn()

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> Any:
        headers = {name: str(value) for name, value in context.invocation_metadata()}
        asked = Asked(headers, int(request.inputs[0].shape[0]), stand_in.gone)
        answer = stand_in.answer(asked, grpc_answer)
        if isinstance(answer, tuple):
            context.abort(*answer)
        return answer

    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(
            infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
        )
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),)
    )
    stand_in.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield stand_in
    finally:
        stand_in.gone.set()
        server.stop(None).wait()
