"""The hop over V2 gRPC with raw tensors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NimbusGuardError,
    NonFiniteOutput,
    NotFound,
    PredictorUnavailable,
)
from serving.calls import Trace
from transformer.explain_tensors import SHAPES, HopExplanation, Tensor, explanation_from
from transformer.hop import (
    HopAnswer,
    authority,
    first_traced,
    joined_ids,
    require_finite,
    require_identity,
    require_tensor,
)

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # One connection for each resolved address, so that new predictor pods get their share.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Transport failures are retried inside the deadline, like those of the REST hop.
    ("grpc.enable_retries", 1),
    (
        "grpc.service_config",
        '{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.02s",'
        '"maxBackoff":"0.2s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}',
    ),
)


class GrpcPredictorClient:
    """Asks a predictor over V2 gRPC.

    Args:
        host: Name or address.
        port: TCP port.
        model_name: The model's name there.
    """

    def __init__(self, host: str, port: int, model_name: str) -> None:
        self._target = authority(host, port)
        self._model_name = model_name
        self._channel: grpc.aio.Channel | None = None
        self._infer: Any = None

    @property
    def address(self) -> str:
        """Host and port."""
        return self._target

    async def infer(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopAnswer:
        """See `PredictorClient`."""
        request = self._request(state)
        return self._decode(await self._ask(request, traces, deadline_at), len(state))

    async def explain(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopExplanation:
        """See `PredictorClient`."""
        request = self._request(state)
        for name in SHAPES:
            request.outputs.add(name=name)
        answer = await self._ask(request, traces, deadline_at)
        version, fingerprint = _identity(answer)
        raws = answer.raw_output_contents
        try:
            tensors = {
                output.name: Tensor(
                    output.datatype, list(output.shape), np.frombuffer(raw, dtype="<f4")
                )
                for output, raw in zip(answer.outputs, raws, strict=True)
            }
        except ValueError as error:
            message = f"predictor at {self._target}: expected a V2 answer with {', '.join(SHAPES)}"
            raise PredictorUnavailable(message) from error
        return explanation_from(tensors, len(state), version, fingerprint)

    def _request(self, state: NDArray[np.float32]) -> Any:
        request = pb.ModelInferRequest(model_name=self._model_name)
        request.inputs.add(name="state", datatype="FP32", shape=state.shape)
        request.raw_input_contents.append(state.tobytes())
        return request

    async def _ask(self, request: Any, traces: Sequence[Trace], deadline_at: float) -> Any:
        timeout_s = max(deadline_at - time.perf_counter(), 0.0)
        try:
            return await self._connected()(request, timeout=timeout_s, metadata=_metadata(traces))
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _connected(self) -> Any:
        """The predictor's `ModelInfer`; a channel belongs to the event loop that it is made on."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
            self._infer = pb_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer
        return self._infer

    def _decode(self, answer: Any, rows: int) -> HopAnswer:
        version, fingerprint = _identity(answer)
        try:
            index = [output.name for output in answer.outputs].index("q_values")
            output, raw = answer.outputs[index], answer.raw_output_contents
            require_tensor(output.datatype, list(output.shape), rows)
            values: Any = (
                np.frombuffer(raw[index], dtype="<f4")
                if raw
                else np.array(output.contents.fp32_contents, dtype=np.float32)
            )
            q_values = values.reshape(rows, ACTION_DIM)
        except (ValueError, IndexError) as error:
            message = f"predictor at {self._target}: expected a V2 answer with q_values"
            raise PredictorUnavailable(message) from error
        require_finite(q_values)
        return HopAnswer(q_values, version, fingerprint)

    def _refusal(self, error: Any) -> NimbusGuardError:
        """A gRPC error as ours."""
        code, details = error.code(), str(error.details())
        said = f"predictor at {self._target}: {code.name}: {details[:500]}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(said)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequest(said)
        if code is grpc.StatusCode.NOT_FOUND:
            return NotFound(said)
        if code is grpc.StatusCode.INTERNAL and "NaN or infinity" in details:
            return NonFiniteOutput(said)
        return PredictorUnavailable(said)


def _identity(answer: Any) -> tuple[str, str]:
    """Version and fingerprint of who answered, which must be for our feature table."""
    version: str = answer.model_version
    fingerprint: str = answer.parameters["fingerprint"].string_param
    require_identity(version, fingerprint)
    return version, fingerprint


def _metadata(traces: Sequence[Trace]) -> list[tuple[str, str]]:
    metadata = [("x-request-id", joined_ids(traces).decode("latin-1"))]
    traced = first_traced(traces)
    if traced is not None:
        metadata.append(("traceparent", (traced.traceparent or b"").decode("latin-1")))
        if traced.tracestate:
            metadata.append(("tracestate", traced.tracestate.decode("latin-1")))
    return metadata
