"""The gRPC front of a model: `GRPCInferenceService`, `grpc.health.v1` and reflection.

The SDK's servicer is not used: it ignores `model_version`, turns a model that is not ready into an
AttributeError, and has neither health nor reflection (kserve-facts D7).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, NoReturn, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from nimbusguard.contract.errors import NimbusGuardError, NotFound, Unavailable
from serving.app import model_metadata, server_metadata
from serving.calls import ModelService, Trace
from serving.grpc_codec import parse_request, response_message
from serving.metrics import ServingMetrics
from serving.model import FutureCall
from serving.settings import ServerSettings
from serving.status import retry_after_of, status_of

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")
MessageT = TypeVar("MessageT")
AnswerT = TypeVar("AnswerT")

logger = logging.getLogger(__name__)

_SERVICE: Final = "inference.GRPCInferenceService"


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer, Generic[PayloadT, ResultT]):
    """The V2 protocol over gRPC for one model."""

    def __init__(self, service: ModelService[PayloadT, ResultT], metrics: ServingMetrics) -> None:
        self._service = service
        self._metrics = metrics

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """Whether the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """Whether the model answers."""
        return pb.ServerReadyResponse(ready=self._is_ready())

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        """Name, version and extensions."""
        return pb.ServerMetadataResponse(**server_metadata(self._service))

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether the model answers."""
        return await self._answer(request, context, "grpc_ready", self._model_ready)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Tensors and versions."""
        return await self._answer(request, context, "grpc_metadata", self._model_metadata)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Inference."""
        return await self._answer(request, context, "grpc_infer", self._infer)

    async def _answer(
        self,
        request: MessageT,
        context: Any,
        route: str,
        work: Callable[[MessageT, Any], Awaitable[AnswerT]],
    ) -> AnswerT:
        """Run one call, count it, and tell its error in gRPC's terms."""
        began = time.perf_counter()
        code = "OK"
        try:
            return await work(request, context)
        except NimbusGuardError as error:
            code = status_of(error).grpc
            await _abort(context, error, str(error))
        except Exception as error:
            # As in the REST front: a defect of ours, told once, with its traceback.
            logger.exception("unexpected error")
            code = status_of(error).grpc
            await _abort(context, error, "internal error; the server's log has the reason")
        finally:
            self._metrics.observe_request(route, code, time.perf_counter() - began)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        self._check_model(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._is_ready())

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        self._check_model(request.name, request.version)
        document = model_metadata(self._service)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=document["name"],
            versions=document["versions"],
            platform=document["platform"],
            inputs=[tensor(**entry) for entry in document["inputs"]],
            outputs=[tensor(**entry) for entry in document["outputs"]],
        )

    async def _infer(self, request: Any, context: Any) -> Any:
        self._check_model(request.model_name, request.model_version)
        service = self._service
        service.check_room()
        infer = parse_request(request, service.inputs, service.outputs)
        payload, rows = service.parse_v2(infer.inputs)
        call: FutureCall[PayloadT, ResultT] = FutureCall(payload, rows, _trace_of(context))
        service.submit(call)
        result = await call.future
        is_raw = len(request.raw_input_contents) > 0
        return response_message(service.v2_response(result), infer, is_raw=is_raw)

    def _check_model(self, name: str, version: str) -> None:
        if name != self._service.name:
            message = (
                f"model: expected {self._service.name!r}, the only one here, got {name[:60]!r}"
            )
            raise NotFound(message)
        if version and version != self._service.version:
            message = (
                f"version: expected {self._service.version}, the loaded one, got {version[:60]!r}"
            )
            raise NotFound(message)

    def _is_ready(self) -> bool:
        try:
            self._service.check_ready()
        except Unavailable:
            return False
        return True


class HealthServicer(health_pb2_grpc.HealthServicer):
    """`grpc.health.v1`, from the model's readiness at the moment of the question."""

    _WATCH_INTERVAL_S: Final = 0.25

    def __init__(self, service: ModelService[Any, Any]) -> None:
        self._service = service

    async def Check(self, request: Any, context: Any) -> Any:
        """The status of the server (empty name) or of the inference service."""
        if request.service not in ("", _SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service: expected {_SERVICE!r}")
        return self._response()

    async def Watch(self, request: Any, context: Any) -> Any:
        """The status now and whenever it changes."""
        known = request.service in ("", _SERVICE)
        last = None
        while not context.cancelled():
            response = self._response() if known else _UNKNOWN
            if response != last:
                last = response
                yield response
            await asyncio.sleep(self._WATCH_INTERVAL_S)

    def _response(self) -> Any:
        try:
            self._service.check_ready()
        except Unavailable:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


_UNKNOWN: Final = health_pb2.HealthCheckResponse(
    status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
)


class GrpcServer:
    """The gRPC server of one model."""

    def __init__(
        self,
        service: ModelService[Any, Any],
        metrics: ServingMetrics,
        settings: ServerSettings,
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._settings = settings
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen.

        Returns:
            The port; a free one for port 0.

        Raises:
            OSError: The address cannot be bound.
        """
        limit = self._settings.max_body_bytes
        options = [
            ("grpc.max_receive_message_length", limit),
            # Outputs of the largest accepted input never come near this.
            ("grpc.max_send_message_length", -1),
            # Two servers on one port would share its connections without anybody knowing.
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=options)
        servicer = InferenceServicer(self._service, self._metrics)
        pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self._service), server)
        names = (_SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            message = f"cannot listen for gRPC on {address}"
            raise OSError(message) from error
        await server.start()
        self._server = server
        return int(bound)

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, finish those under way, within the grace period."""
        if self._server is not None:
            await self._server.stop(grace_s)


def _trace_of(context: Any) -> Trace:
    metadata = dict(context.invocation_metadata() or ())
    request_id, parent, state = (
        metadata.get(key) for key in ("x-request-id", "traceparent", "tracestate")
    )
    return Trace(
        request_id.encode() if isinstance(request_id, str) else b"",
        parent.encode() if isinstance(parent, str) else None,
        state.encode() if isinstance(state, str) else None,
    )


async def _abort(context: Any, error: BaseException, message: str) -> NoReturn:
    retry_after = retry_after_of(error)
    if retry_after is not None:
        context.set_trailing_metadata((("retry-after", str(retry_after)),))
    await context.abort(getattr(grpc.StatusCode, status_of(error).grpc), message)
    raise AssertionError  # abort never returns
