"""V2 over protobuf, to and from the same typed values as V2 over REST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.tensors import (
    InferRequest,
    InferResponse,
    OutputTensor,
    RequestedOutput,
    TensorSpec,
    array_of_bytes,
    bytes_of,
    check_outputs,
    check_required,
    check_tensor,
    numbers_array,
    selected_outputs,
)

_CONTENTS: Final = {"FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents"}
"""The typed field of `InferTensorContents` for each datatype."""


def parse_request(
    message: pb.ModelInferRequest, specs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> InferRequest:
    """The typed request of a `ModelInfer` message.

    Raises:
        InvalidRequest: A tensor is missing, of another type or shape, or given twice.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        text = f"raw_input_contents: expected one for each of {len(message.inputs)} inputs, got "
        raise InvalidRequest(text + str(len(raw)))
    by_name = {spec.name: spec for spec in specs}
    inputs: dict[str, NDArray[Any]] = {}
    for index, tensor in enumerate(message.inputs):
        spec = by_name.get(tensor.name)
        if spec is None:
            text = f"inputs: expected tensors out of {sorted(by_name)}, got {tensor.name[:60]!r}"
            raise InvalidRequest(text)
        if spec.name in inputs:
            text = f"inputs: {spec.name}: expected once, got twice"
            raise InvalidRequest(text)
        inputs[spec.name] = _parse_tensor(tensor, raw[index] if raw else None, spec)
    check_required(inputs, specs)
    wanted = tuple(RequestedOutput(output.name, binary=True) for output in message.outputs)
    request = InferRequest(inputs, message.id or None, wanted or None)
    check_outputs(request, outputs)
    return request


def response_message(
    response: InferResponse, request: InferRequest, *, is_raw: bool
) -> pb.ModelInferResponse:
    """The `ModelInfer` answer.

    Args:
        response: What the model said.
        request: What was asked for.
        is_raw: Send raw bytes, as the caller did, instead of typed contents.
    """
    message = pb.ModelInferResponse(
        model_name=response.model_name,
        model_version=response.model_version or "",
        id=request.request_id or "",
    )
    for key, value in response.parameters.items():
        message.parameters[key].string_param = value
    for tensor, _ in selected_outputs(response.outputs, request):
        shape = list(tensor.data.shape)
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        if is_raw:
            message.raw_output_contents.append(bytes_of(tensor))
        else:
            _fill_contents(output.contents, tensor)
    return message


def _parse_tensor(
    tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, spec: TensorSpec
) -> NDArray[Any]:
    shape = check_tensor(tensor.name, tensor.datatype, list(tensor.shape), spec)
    if raw is not None:
        if tensor.HasField("contents"):
            text = f"{spec.name}: expected either contents or raw_input_contents, got both"
            raise InvalidRequest(text)
        return array_of_bytes(raw, tensor.datatype, shape, spec.name)
    values = getattr(tensor.contents, _CONTENTS[tensor.datatype])
    expected = 1
    for size in shape:
        expected *= size
    if len(values) != expected:
        text = (
            f"{spec.name}: contents: expected {expected} numbers in {_CONTENTS[tensor.datatype]} "
            f"for shape {list(shape)}, got {len(values)}"
        )
        raise InvalidRequest(text)
    return numbers_array(list(values), tensor.datatype, spec.name).reshape(shape)


def _fill_contents(contents: pb.InferTensorContents, tensor: OutputTensor) -> None:
    if tensor.datatype == "BYTES":
        contents.bytes_contents.extend(tensor.data.tolist())
    else:
        getattr(contents, _CONTENTS[tensor.datatype]).extend(tensor.data.ravel().tolist())
