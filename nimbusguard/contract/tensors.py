"""The V2 (Open Inference Protocol) wire form: named tensors, as JSON or with binary data behind it.

gRPC carries the same values in protobuf; `serving.grpc_codec` maps it to the types here.

Sources: Open Inference Protocol, "inference_rest"; KServe, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.messages import describe

NUMPY_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT64": np.dtype("<i8"),
}
"""The datatypes that one of our tensors has, with their layout on the wire (little-endian)."""
_FLOATS: Final = frozenset({"FP32", "FP64"})


class TensorSpec(NamedTuple):
    """What a named tensor has to look like; also its entry in the model's metadata."""

    name: str
    datatypes: tuple[str, ...]
    """Accepted datatypes; the first is the one that metadata names."""
    shape: tuple[int, ...]
    """-1 stands for any number of rows."""
    required: bool = True

    def document(self) -> dict[str, Any]:
        """The entry in the model's metadata."""
        return {"name": self.name, "datatype": self.datatypes[0], "shape": list(self.shape)}


class OutputTensor(NamedTuple):
    """A tensor to send."""

    name: str
    datatype: str
    data: NDArray[Any]
    """Numbers in their wire type, or an object array of `bytes` for BYTES."""


class RequestedOutput(NamedTuple):
    """An output that the caller asked for."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A V2 request, whatever it came by."""

    inputs: dict[str, NDArray[Any]]
    """By name, checked against the specification."""
    request_id: str | None = None
    outputs: tuple[RequestedOutput, ...] | None = None
    """None when the caller asked for none in particular."""
    binary_output: bool = False
    """Whether outputs go out as binary where the caller did not say."""


@dataclass(frozen=True, slots=True)
class InferResponse:
    """A V2 response, whatever it goes by."""

    model_name: str
    model_version: str | None
    outputs: Sequence[OutputTensor]
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_infer(document: object, tail: memoryview, specs: Sequence[TensorSpec]) -> InferRequest:
    """A REST request from its decoded JSON and the binary data behind it.

    Args:
        document: The JSON part.
        tail: The bytes after it; empty without the binary extension.
        specs: The tensors that the model takes.

    Raises:
        InvalidRequest: Something is missing, of another type or shape, or left over.
    """
    if type(document) is not dict:
        message = f"body: expected an object with 'inputs', got {describe(document)}"
        raise InvalidRequest(message)
    entries = document.get("inputs")
    if type(entries) is not list or not entries:
        message = f"inputs: expected an array of tensors, got {describe(entries)}"
        raise InvalidRequest(message)
    request_id = document.get("id")
    if request_id is not None and type(request_id) is not str:
        message = f"id: expected a string, got {describe(request_id)}"
        raise InvalidRequest(message)
    by_name = {spec.name: spec for spec in specs}
    inputs: dict[str, NDArray[Any]] = {}
    position = 0
    for entry in entries:
        spec = _spec_of(entry, by_name, inputs)
        array, used = _parse_tensor(entry, tail[position:], spec)
        position += used
        inputs[spec.name] = array
    if position != len(tail):
        message = f"body: expected {position} bytes of binary data, got {len(tail)}"
        raise InvalidRequest(message)
    check_required(inputs, specs)
    parameters = _parameters(document, "parameters")
    binary = _flag(parameters, "binary_data_output", False, "parameters")
    return InferRequest(
        inputs,
        request_id,
        _parse_outputs(document.get("outputs"), binary),
        binary,
    )


def check_required(inputs: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec]) -> None:
    """Refuse a request that lacks a required tensor, or whose tensors differ in rows.

    Raises:
        InvalidRequest: As said.
    """
    rows: int | None = None
    for spec in specs:
        array = inputs.get(spec.name)
        if array is None:
            if spec.required:
                message = f"inputs: expected a tensor named {spec.name!r}, got {sorted(inputs)}"
                raise InvalidRequest(message)
            continue
        if rows is None:
            rows = len(array)
        elif len(array) != rows:
            message = f"{spec.name}: expected {rows} rows like the first tensor, got {len(array)}"
            raise InvalidRequest(message)


def check_outputs(request: InferRequest, specs: Sequence[TensorSpec]) -> None:
    """Refuse a request for an output that there is not.

    Raises:
        InvalidRequest: As said.
    """
    names = [spec.name for spec in specs]
    for asked in request.outputs or ():
        if asked.name not in names:
            message = f"outputs: expected names out of {names}, got {describe(asked.name)}"
            raise InvalidRequest(message)


def array_of_bytes(
    data: bytes | memoryview, datatype: str, shape: Sequence[int], name: str
) -> NDArray[Any]:
    """A tensor from its raw little-endian bytes, as a read-only view.

    Raises:
        InvalidRequest: The number of bytes does not fit datatype and shape.
    """
    dtype = NUMPY_TYPES[datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        message = (
            f"{name}: expected {expected} bytes for {datatype} of shape {list(shape)}, "
            f"got {len(data)}"
        )
        raise InvalidRequest(message)
    return np.frombuffer(data, dtype=dtype).reshape(tuple(shape))


def check_tensor(
    name: object, datatype: object, shape: object, spec: TensorSpec
) -> tuple[int, ...]:
    """Check a tensor's datatype and shape against what the model takes.

    Returns:
        The shape.

    Raises:
        InvalidRequest: They differ.
    """
    if datatype not in spec.datatypes:
        expected = " or ".join(spec.datatypes)
        message = f"{name}: datatype: expected {expected}, got {describe(datatype)}"
        raise InvalidRequest(message)
    wanted = list(spec.shape)
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        message = f"{name}: shape: expected {wanted}, got {describe(shape)}"
        raise InvalidRequest(message)
    fits = len(shape) == len(wanted) and all(
        type(got) is int and got >= 0 and (got == want or want < 0)
        for got, want in zip(shape, wanted, strict=True)
    )
    if not fits:
        message = f"{name}: shape: expected {wanted}, got {list(shape)[:8]}"
        raise InvalidRequest(message)
    return tuple(shape)


def infer_document(
    response: InferResponse, request: InferRequest
) -> tuple[dict[str, Any], list[bytes]]:
    """A REST response: its JSON part and the binary parts that follow it."""
    wanted = selected_outputs(response.outputs, request)
    entries: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for tensor, binary in wanted:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.data.shape),
        }
        if binary:
            data = bytes_of(tensor)
            entry["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        elif tensor.datatype == "BYTES":
            entry["data"] = [value.decode() for value in tensor.data]
        else:
            entry["data"] = tensor.data.ravel().tolist()
        entries.append(entry)
    document: dict[str, Any] = {"model_name": response.model_name}
    if response.model_version is not None:
        document["model_version"] = response.model_version
    if request.request_id is not None:
        document["id"] = request.request_id
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    document["outputs"] = entries
    return document, tail


def selected_outputs(
    outputs: Sequence[OutputTensor], request: InferRequest
) -> list[tuple[OutputTensor, bool]]:
    """The outputs that a caller wants, each with whether it goes out as binary.

    `check_outputs` has seen to it that all of them exist.
    """
    if request.outputs is None:
        return [(tensor, request.binary_output) for tensor in outputs]
    by_name = {tensor.name: tensor for tensor in outputs}
    return [(by_name[asked.name], asked.binary) for asked in request.outputs]


def bytes_of(tensor: OutputTensor) -> bytes:
    """A tensor's raw bytes; each element of BYTES behind its length as four bytes."""
    if tensor.datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value for value in tensor.data)
    return np.ascontiguousarray(tensor.data, dtype=NUMPY_TYPES[tensor.datatype]).tobytes()


def _spec_of(
    entry: object, by_name: Mapping[str, TensorSpec], seen: Mapping[str, Any]
) -> TensorSpec:
    if type(entry) is not dict:
        message = f"inputs: expected tensors as objects, got {describe(entry)}"
        raise InvalidRequest(message)
    name = entry.get("name")
    spec = by_name.get(name) if type(name) is str else None
    if spec is None:
        message = f"inputs: expected tensors out of {sorted(by_name)}, got {describe(name)}"
        raise InvalidRequest(message)
    if spec.name in seen:
        message = f"inputs: {spec.name}: expected once, got twice"
        raise InvalidRequest(message)
    return spec


def _parse_tensor(
    entry: Mapping[str, Any], tail: memoryview, spec: TensorSpec
) -> tuple[NDArray[Any], int]:
    """One input tensor and how many bytes of the tail it took."""
    shape = check_tensor(spec.name, entry.get("datatype"), entry.get("shape"), spec)
    datatype: str = entry["datatype"]
    size = _parameters(entry, f"{spec.name}: parameters").get("binary_data_size")
    if size is None:
        return _parse_json_data(entry.get("data"), datatype, shape, spec.name), 0
    if type(size) is not int or not 0 <= size <= len(tail):
        message = (
            f"{spec.name}: binary_data_size: expected at most the {len(tail)} bytes that follow, "
            f"got {describe(size)}"
        )
        raise InvalidRequest(message)
    if "data" in entry:
        message = f"{spec.name}: expected either data or binary_data_size, got both"
        raise InvalidRequest(message)
    return array_of_bytes(tail[:size], datatype, shape, spec.name), size


def _parse_json_data(
    data: object, datatype: str, shape: tuple[int, ...], name: str
) -> NDArray[Any]:
    if type(data) is not list:
        message = f"{name}: data: expected an array, got {describe(data)}"
        raise InvalidRequest(message)
    flat = _flatten(data, shape, name) if data and type(data[0]) is list else data
    expected = math.prod(shape)
    if len(flat) != expected:
        message = (
            f"{name}: data: expected {expected} numbers for shape {list(shape)}, got {len(flat)}"
        )
        raise InvalidRequest(message)
    return numbers_array(flat, datatype, name).reshape(shape)


def numbers_array(flat: Sequence[Any], datatype: str, name: str) -> NDArray[Any]:
    """JSON numbers as a flat array; null is NaN, for absent, where the type can say so.

    Raises:
        InvalidRequest: A value is of another type or does not fit.
    """
    floats = datatype in _FLOATS
    accepted = {float, int, type(None)} if floats else {int}
    if not accepted.issuperset(map(type, flat)):
        place = next(i for i, value in enumerate(flat) if type(value) not in accepted)
        kind = "a number" if floats else "a whole number"
        message = f"{name}: data[{place}]: expected {kind}, got {describe(flat[place])}"
        raise InvalidRequest(message)
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=NUMPY_TYPES[datatype])
    except OverflowError:
        message = f"{name}: data: expected numbers that fit {datatype}, got larger ones"
        raise InvalidRequest(message) from None


def _flatten(data: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    """Nested rows as one list; their lengths must be those of the shape."""
    flat: list[Any] = []
    for index, row in enumerate(data):
        if type(row) is not list or len(shape) != 2 or len(row) != shape[1]:
            message = f"{name}: data[{index}]: expected rows of shape {list(shape)}, got "
            raise InvalidRequest(message + describe(row))
        flat.extend(row)
    return flat


def _parse_outputs(entries: object, binary: bool) -> tuple[RequestedOutput, ...] | None:
    if entries is None:
        return None
    if type(entries) is not list:
        message = f"outputs: expected an array, got {describe(entries)}"
        raise InvalidRequest(message)
    if not entries:
        return None
    outputs = []
    for entry in entries:
        name = entry.get("name") if type(entry) is dict else None
        if type(name) is not str:
            message = f"outputs: expected objects with a name, got {describe(entry)}"
            raise InvalidRequest(message)
        parameters = _parameters(entry, f"outputs: {name}: parameters")
        asked = _flag(parameters, "binary_data", binary, f"outputs: {name}")
        outputs.append(RequestedOutput(name, asked))
    return tuple(outputs)


def _parameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        message = f"{where}: expected an object, got {describe(parameters)}"
        raise InvalidRequest(message)
    return parameters


def _flag(parameters: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        message = f"{where}: {key}: expected true or false, got {describe(value)}"
        raise InvalidRequest(message)
    return value
