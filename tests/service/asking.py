"""Every way of asking the two services, each reduced to the same typed answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from numpy.typing import NDArray

from tests.service.processes import MODEL, Server
from tests.service.reference import NAMES, Asked
from tests.service.wire import Answer, Wire

PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"
_GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
_LARGEST = float(np.finfo(np.float32).max)
"""Stands for +Inf in V2 JSON, which has no word for it; both clip alike."""


class Refused(Exception):  # noqa: N818 - told as a fact
    """The service refused; the message is the service's."""


class Decided(NamedTuple):
    """Decisions of a batch."""

    action_index: NDArray[np.int64]
    target: NDArray[np.int64]
    q_values: NDArray[np.float32]
    documents: list[dict[str, Any]] | None = None
    """The whole decisions, where the protocol has them."""


class Caller:
    """Connections to one server."""

    def __init__(self, server: Server) -> None:
        self.wire = Wire(server.http_port)
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        self._channel = grpc.insecure_channel(server.grpc_target, options)
        self._infer = self._channel.unary_unary(
            _GRPC_INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    def close(self) -> None:
        self.wire.close()
        self._channel.close()

    def post(self, path: str, document: Any) -> Any:
        return _accepted(self.wire.ask("POST", path, json.dumps(document).encode())).json()

    def post_binary(self, inputs: list[dict[str, Any]], tail: bytes) -> tuple[Any, bytes]:
        document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
        head = json.dumps(document).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = _accepted(self.wire.ask("POST", INFER, head + tail, headers))
        split = int(answer.headers["inference-header-content-length"])
        return json.loads(answer.body[:split]), answer.body[split:]

    def infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        try:
            return self._infer(request, timeout=20)
        except grpc.RpcError as error:
            raise Refused(error.details()) from error


def _accepted(answer: Answer) -> Answer:
    if answer.status != 200:
        raise Refused(answer.error)
    assert b"null" not in answer.body
    return answer


# The transformer


def v1_named(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Named features; a name is left out for NaN."""
    return _v1(caller, rows, lambda row: {k: _word(v) for k, v in row.items() if v == v})


def v1_words(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Named features as strings, as an exporter writes them."""
    return _v1(caller, rows, lambda row: {k: repr(v) for k, v in row.items()})


def v1_prometheus(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Prometheus' answers."""
    return _v1(caller, rows, lambda row: {"prometheus": _instant_answer(row)})


def v1_array(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Rows of numbers, which have no place for options."""
    assert all(asked.current is None for asked in rows)
    return _v1_document(caller, [[_word(value) for value in asked.row] for asked in rows])


def v2_json(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Tensors as JSON, nested; null for NaN."""
    data = [
        [None if math.isnan(value) else min(value, _LARGEST) for value in asked.row]
        for asked in rows
    ]
    main = {"name": "raw_metrics", "datatype": "FP64", "shape": [len(rows), 11], "data": data}
    options = [
        {"name": name, "datatype": "INT64", "shape": [len(rows)], "data": values}
        for name, values in _options(rows).items()
    ]
    answer = caller.post(INFER, {"inputs": [main, *options]})
    by_name = {output["name"]: output for output in answer["outputs"]}
    shaped = {name: np.array(o["data"]).reshape(o["shape"]) for name, o in by_name.items()}
    _expect_names(shaped["action"].tolist(), shaped["action_index"])
    return Decided(shaped["action_index"], shaped["target_replicas"], shaped["q_values"])


def v2_binary_double(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Binary tensors of FP64, both ways."""
    return _v2_binary(caller, rows, "FP64", "<f8")


def v2_binary_single(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Binary tensors of FP32, both ways."""
    return _v2_binary(caller, rows, "FP32", "<f4")


def grpc_typed(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Typed contents, both ways."""
    request = pb.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="raw_metrics", datatype="FP32", shape=[len(rows), 11])
    tensor.contents.fp32_contents.extend(value for asked in rows for value in asked.row)
    for name, values in _options(rows).items():
        tensor = request.inputs.add(name=name, datatype="INT64", shape=[len(rows)])
        tensor.contents.int64_contents.extend(values)
    answer = caller.infer(request)
    assert not answer.raw_output_contents
    by_name = {output.name: output for output in answer.outputs}
    index = np.array(by_name["action_index"].contents.int64_contents)
    names = [name.decode() for name in by_name["action"].contents.bytes_contents]
    _expect_names(names, index)
    q_values = np.array(by_name["q_values"].contents.fp32_contents, dtype=np.float32)
    target = np.array(by_name["target_replicas"].contents.int64_contents)
    return Decided(index, target, q_values.reshape(by_name["q_values"].shape))


def grpc_raw(caller: Caller, rows: Sequence[Asked]) -> Decided:
    """Raw contents, both ways."""
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="raw_metrics", datatype="FP64", shape=[len(rows), 11])
    request.raw_input_contents.append(_matrix(rows, "<f8"))
    for name, values in _options(rows).items():
        request.inputs.add(name=name, datatype="INT64", shape=[len(rows)])
        request.raw_input_contents.append(np.array(values, dtype="<i8").tobytes())
    answer = caller.infer(request)
    names = [output.name for output in answer.outputs]
    parts = dict(zip(names, answer.raw_output_contents, strict=True))
    return _decided_of_bytes(parts, len(rows))


Way = Callable[[Caller, Sequence[Asked]], Decided]
WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        v1_named,
        v1_words,
        v1_prometheus,
        v1_array,
        v2_json,
        v2_binary_double,
        v2_binary_single,
        grpc_typed,
        grpc_raw,
    )
}
"""All ways to a decision. All but `v1_array` carry replica counts and bounds."""


def _v1(
    caller: Caller, rows: Sequence[Asked], instance_of: Callable[[dict[str, float]], dict[str, Any]]
) -> Decided:
    instances = []
    for asked in rows:
        options: dict[str, Any] = {}
        if asked.current is not None:
            options = {
                "current_replicas": asked.current,
                "min_replicas": asked.minimum,
                "max_replicas": asked.maximum,
            }
        instances.append(instance_of(dict(zip(NAMES, asked.row, strict=True))) | options)
    return _v1_document(caller, instances)


def _v1_document(caller: Caller, instances: list[Any]) -> Decided:
    decisions = caller.post(PREDICT, {"instances": instances})["predictions"]
    _expect_names(
        [d["action"] for d in decisions], np.array([d["action_index"] for d in decisions])
    )
    return Decided(
        np.array([decision["action_index"] for decision in decisions]),
        np.array([decision["target_replicas"] for decision in decisions]),
        np.array([decision["q_values"] for decision in decisions], dtype=np.float32),
        decisions,
    )


def _v2_binary(caller: Caller, rows: Sequence[Asked], datatype: str, layout: str) -> Decided:
    parts = [("raw_metrics", datatype, [len(rows), 11], _matrix(rows, layout))]
    for name, values in _options(rows).items():
        parts.append((name, "INT64", [len(rows)], np.array(values, dtype="<i8").tobytes()))
    inputs = [
        {"name": n, "datatype": d, "shape": s, "parameters": {"binary_data_size": len(data)}}
        for n, d, s, data in parts
    ]
    document, tail = caller.post_binary(inputs, b"".join(data for *_, data in parts))
    found, position = {}, 0
    for output in document["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = tail[position : position + size]
        position += size
    assert position == len(tail)
    return _decided_of_bytes(found, len(rows))


def _decided_of_bytes(parts: dict[str, bytes], rows: int) -> Decided:
    index = np.frombuffer(parts["action_index"], dtype="<i8")
    names, data = [], parts["action"]
    while data:
        size = int.from_bytes(data[:4], "little")
        names.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    _expect_names(names, index)
    q_values = np.frombuffer(parts["q_values"], dtype="<f4").reshape(rows, 5)
    return Decided(index, np.frombuffer(parts["target_replicas"], dtype="<i8"), q_values)


def _options(rows: Sequence[Asked]) -> dict[str, list[int]]:
    if rows[0].current is None:
        return {}
    return {
        "current_replicas": [asked.current or 0 for asked in rows],
        "min_replicas": [asked.minimum for asked in rows],
        "max_replicas": [asked.maximum for asked in rows],
    }


def _matrix(rows: Sequence[Asked], layout: str) -> bytes:
    return np.array([asked.row for asked in rows], dtype=layout).tobytes()


def _word(value: float) -> float | str | None:
    """A number as JSON can have it."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("+Inf" if value > 0 else "-Inf")


def _instant_answer(row: dict[str, float]) -> dict[str, Any]:
    words = {math.inf: "+Inf", -math.inf: "-Inf"}
    result = [
        {
            "metric": {"__name__": f"nimbusguard:{name}"},
            "value": [1763913600.5, "NaN" if value != value else words.get(value, repr(value))],
        }
        for name, value in row.items()
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def _expect_names(names: Sequence[str], index: NDArray[np.int64]) -> None:
    order = ["SCALE_DOWN_2", "SCALE_DOWN_1", "NO_ACTION", "SCALE_UP_1", "SCALE_UP_2"]
    assert list(names) == [order[i] for i in index.tolist()]


# The predictor


def q_values_v1(caller: Caller, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of numbers."""
    answer = caller.post(PREDICT, {"instances": states.tolist()})
    return np.array(answer["predictions"], dtype=np.float32)


def q_values_v2_json(caller: Caller, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """A tensor as JSON, flat."""
    tensor = {"name": "state", "datatype": "FP32", "shape": list(states.shape)}
    answer = caller.post(INFER, {"inputs": [tensor | {"data": states.ravel().tolist()}]})
    (output,) = answer["outputs"]
    return np.array(output["data"], dtype=np.float32).reshape(output["shape"])


def q_values_v2_binary(caller: Caller, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """A binary tensor, both ways."""
    size = {"binary_data_size": states.nbytes}
    tensor = {"name": "state", "datatype": "FP32", "shape": list(states.shape), "parameters": size}
    document, tail = caller.post_binary([tensor], states.tobytes())
    return np.frombuffer(tail, dtype="<f4").reshape(document["outputs"][0]["shape"])


def q_values_grpc_typed(caller: Caller, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Typed contents, both ways."""
    request = pb.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="state", datatype="FP32", shape=states.shape)
    tensor.contents.fp32_contents.extend(states.ravel().tolist())
    (output,) = caller.infer(request).outputs
    return np.array(output.contents.fp32_contents, dtype=np.float32).reshape(output.shape)


def q_values_grpc_raw(caller: Caller, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw contents, both ways."""
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="state", datatype="FP32", shape=states.shape)
    request.raw_input_contents.append(states.tobytes())
    answer = caller.infer(request)
    shape = answer.outputs[0].shape
    return np.frombuffer(answer.raw_output_contents[0], dtype="<f4").reshape(shape)


Q_WAYS: dict[str, Callable[[Caller, NDArray[np.float32]], NDArray[np.float32]]] = {
    way.__name__: way
    for way in (
        q_values_v1,
        q_values_v2_json,
        q_values_v2_binary,
        q_values_grpc_typed,
        q_values_grpc_raw,
    )
}
"""All ways to Q-values."""
