"""The bad requests of `tests/data/bad_requests`, from their files to what goes over the wire.

A case says how it differs from a good request, so that it shows its one mistake and nothing else:

- `body`: this JSON instead; `text`: these bytes (latin-1) instead, as pieces;
- `features`, `without`: changes of the good named instance; `values`: of the good row, by index;
- `tensor`, `tensors`, `twice`, `request`: changes of the good tensor, more tensors, the same tensor
  again, changes of the request around them;
- `tail_bytes`, `tail_hex`, `length`: the binary data and the header that says where it begins;
- `raw` (of HTTP): the whole request; `closes`: what came is no HTTP, so that the connection ends.

`{default}` in a message is the version that is served by default.

A piece is a text, or a list of pieces and how often they come: `["[", 1000]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.service.processes import MODEL, VERSION
from tests.service.wire import request_bytes

DATA = Path(__file__).parents[1] / "data"
PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
_TENSOR_BYTES = bytes.fromhex("0000003f") * 11
"""One row of 0.5 as FP32."""
_MESSAGES: dict[str, type[Message]] = {
    "ModelMetadata": pb.ModelMetadataRequest,
    "ModelReady": pb.ModelReadyRequest,
    "RepositoryModelLoad": pb.RepositoryModelLoadRequest,
    "RepositoryModelUnload": pb.RepositoryModelUnloadRequest,
}


class HttpCase(NamedTuple):
    """A bad request over HTTP."""

    name: str
    service: str
    data: bytes
    method: str
    status: int
    message: str
    closes: bool
    allow: str | None


class GrpcCase(NamedTuple):
    """A bad request over gRPC."""

    name: str
    service: str
    method: str
    data: bytes
    code: str
    message: str


def good(name: str) -> Any:
    """A good body out of `tests/data`, such as `v1/named`."""
    return json.loads((DATA / f"{name}.json").read_text())


def good_message(service: str) -> bytes:
    """A good `ModelInferRequest`."""
    return _grpc({}, service)


def http_cases() -> Iterator[HttpCase]:
    """All of REST, with what the file is called before the name."""
    makers = {"http": _http, "v1": _v1, "v2": _v2, "v2-binary": _v2_binary}
    for protocol, make in makers.items():
        for service, case in _cases(protocol):
            yield HttpCase(
                f"{protocol}: {case['name']}",
                service,
                make(case, service),
                case.get("method", "POST"),
                case.get("status", 400),
                case["message"],
                case.get("closes", False),
                case.get("allow"),
            )


def grpc_cases() -> Iterator[GrpcCase]:
    """All of gRPC."""
    for service, case in _cases("grpc"):
        yield GrpcCase(
            f"grpc: {case['name']}",
            service,
            case.get("method", "ModelInfer"),
            _grpc(case, service),
            case["status"],
            case["message"],
        )


def _cases(protocol: str) -> Iterator[tuple[str, dict[str, Any]]]:
    text = (DATA / "bad_requests" / f"{protocol}.json").read_text()
    for case in json.loads(text.replace("{default}", VERSION)):
        both = case["service"] == "both"
        for service in ("predictor", "transformer") if both else (case["service"],):
            yield service, case


def _text(pieces: Any) -> str:
    if isinstance(pieces, str):
        return pieces
    parts = []
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(piece)
        else:
            parts.append(_text(piece[0]) * piece[1])
    return "".join(parts)


def _http(case: Mapping[str, Any], service: str) -> bytes:
    if "raw" in case:
        return _text(case["raw"]).encode("latin-1")
    return _post(case, case["path"], _text(case.get("text", "")).encode("latin-1"))


def _v1(case: Mapping[str, Any], service: str) -> bytes:
    return _post(case, case.get("path", PREDICT), _v1_body(case, service))


def _v1_body(case: Mapping[str, Any], service: str) -> bytes:
    if "text" in case:
        return _text(case["text"]).encode("latin-1")
    if "body" in case:
        return json.dumps(case["body"]).encode()
    if "values" in case:
        row = good("v1/states" if service == "predictor" else "v1/array")["instances"][0]
        for index, value in case["values"].items():
            row[int(index)] = value
        return json.dumps({"instances": [row]}).encode()
    instance = good("v1/named")["instances"][0] | case.get("features", {})
    for name in case.get("without", ()):
        del instance[name]
    return json.dumps({"instances": [instance]}).encode()


def _v2(case: Mapping[str, Any], service: str) -> bytes:
    path = case.get("path", INFER)
    if "text" in case:
        return _post(case, path, _text(case["text"]).encode("latin-1"))
    if "body" in case:
        return _post(case, path, json.dumps(case["body"]).encode())
    request = good("v2/state" if service == "predictor" else "v2/raw-metrics")
    return _post(case, path, json.dumps(_patched(request, case)).encode())


def _v2_binary(case: Mapping[str, Any], service: str) -> bytes:
    tensor = {
        "name": _main_tensor(service),
        "shape": [1, 11],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(_TENSOR_BYTES)},
    }
    head = json.dumps(_patched({"inputs": [tensor]}, case)).encode()
    tail = (_TENSOR_BYTES * 2)[: case.get("tail_bytes", len(_TENSOR_BYTES))]
    tail = bytes.fromhex(case["tail_hex"]) if "tail_hex" in case else tail
    length = _text(case.get("length", str(len(head))))
    length = str(len(head) + len(tail)) if length == "all" else length
    return request_bytes("POST", INFER, head + tail, {"Inference-Header-Content-Length": length})


def _patched(request: dict[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """A V2 request with the differences of a case; null in a patch takes the key away."""
    tensor = _without_nulls(request["inputs"][0] | (case.get("tensor") or {}), case)
    tensors = [tensor] * (2 if case.get("twice") else 1)
    if case.get("tensor", {}) is None:
        tensors = []
    inputs = {"inputs": [*tensors, *case.get("tensors", ())]}
    return request | inputs | case.get("request", {})


def _without_nulls(tensor: dict[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
    nulls = [key for key, value in (case.get("tensor") or {}).items() if value is None]
    return {key: value for key, value in tensor.items() if key not in nulls}


def _grpc(case: Mapping[str, Any], service: str) -> bytes:
    if "wire" in case:
        return bytes.fromhex(case["wire"])
    if "wire_bytes" in case:
        return b"\x00" * int(case["wire_bytes"])
    if "message_json" in case:
        message = ParseDict(case["message_json"], _MESSAGES[case["method"]]())
        return message.SerializeToString()
    row = good("v1/states" if service == "predictor" else "v1/array")["instances"][0]
    tensor = {
        "name": _main_tensor(service),
        "datatype": "FP32",
        "shape": ["1", "11"],
        "contents": {"fp32Contents": row},
    }
    document = _patched({"modelName": MODEL, "inputs": [tensor]}, case)
    message = ParseDict(document, pb.ModelInferRequest())
    message.raw_input_contents.extend(bytes.fromhex(raw) for raw in case.get("raw", ()))
    return message.SerializeToString()


def _main_tensor(service: str) -> str:
    return "state" if service == "predictor" else "raw_metrics"


def _post(case: Mapping[str, Any], path: Any, body: bytes) -> bytes:
    return request_bytes(case.get("method", "POST"), _text(path), body, case.get("headers"))
