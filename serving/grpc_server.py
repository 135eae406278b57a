"""The gRPC front of a model: `GRPCInferenceService`, `grpc.health.v1` and reflection.

The SDK's servicer is not used: it ignores `model_version`, turns a model that is not ready into an
AttributeError, and has neither health nor reflection (kserve-facts D7).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, NoReturn, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from nimbusguard.contract.errors import NimbusGuardError, NotFound, Unavailable
from nimbusguard.telemetry.spans import Tracer
from serving.app import model_metadata, server_metadata
from serving.calls import FutureCall, ModelService, OutputChoice, Trace
from serving.grpc_codec import parse_request, response_message
from serving.grpc_health import HealthServicer
from serving.grpc_methods import Registrar
from serving.metrics import ServingMetrics
from serving.settings import ServerSettings
from serving.status import retry_after_of, status_of
from serving.tracing import RequestIds, begin, trace_id_of, trace_of

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")
MessageT = TypeVar("MessageT")
AnswerT = TypeVar("AnswerT")

logger = logging.getLogger(__name__)

_INFER: Final = "grpc_infer"
_EXPLAIN: Final = "grpc_explain"
_FAULTLESS: Final = frozenset({"OK", "INVALID_ARGUMENT", "NOT_FOUND", "CANCELLED"})
"""Codes that are no fault of the server."""
_SERVICE: Final = "inference.GRPCInferenceService"
_NO_REPOSITORY: Final = "a version is chosen when the server starts; roll out another one instead"


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer, Generic[PayloadT, ResultT]):
    """The V2 protocol over gRPC for one model."""

    def __init__(
        self,
        service: ModelService[PayloadT, ResultT],
        metrics: ServingMetrics,
        tracer: Tracer | None = None,
    ) -> None:
        self._service = service
        self._choice = OutputChoice(service)
        self._metrics = metrics
        self._tracer = tracer
        self._ids = RequestIds()

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
        route = _EXPLAIN if self._choice.explains(request.outputs) else _INFER
        return await self._answer(request, context, route, self._infer)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """Left out on purpose, as over REST: any caller could swap the model."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, _NO_REPOSITORY)

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        """As `RepositoryModelLoad`."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, _NO_REPOSITORY)

    def count_refused(self) -> None:
        """Count a message that was none."""
        self._metrics.observe_request("grpc_other", grpc.StatusCode.INVALID_ARGUMENT.name, 0.0)

    async def _answer(
        self,
        request: MessageT,
        context: Any,
        route: str,
        work: Callable[[MessageT, Trace], Awaitable[AnswerT]],
    ) -> AnswerT:
        """Run one call, count it, and tell its error in gRPC's terms."""
        began = time.perf_counter()
        code = grpc.StatusCode.CANCELLED.name  # what stays when the caller goes
        tracer = self._tracer if route in (_INFER, _EXPLAIN) else None
        trace = begin(tracer, route, self._trace_of(context), self._service)
        try:
            answer = await work(request, trace)
        except NimbusGuardError as error:
            code = status_of(error).grpc
            await _abort(context, trace, error, str(error))
        except Exception as error:
            # As in the REST front: a defect of ours, told once, with its traceback.
            logger.exception("unexpected error", extra={"request_id": _id_of(trace)[1]})
            code = status_of(error).grpc
            message = "internal error; the log has the reason under this x-request-id"
            await _abort(context, trace, error, message)
        else:
            code = grpc.StatusCode.OK.name
            context.set_trailing_metadata((_id_of(trace),))
            return answer
        finally:
            self._observe(route, code, time.perf_counter() - began, trace)

    def _observe(self, route: str, code: str, seconds: float, trace: Trace) -> None:
        span = trace.span
        trace_id = None if span is None else span.trace_id
        self._metrics.observe_request(route, code, seconds, trace_id)
        if span is not None:
            span.set("rpc.grpc.status_code", code)
            span.end(None if code in _FAULTLESS else f"answered {code}")
        if logger.isEnabledFor(logging.DEBUG):
            fields = {
                "request_id": _id_of(trace)[1],
                "route": route,
                "status": code,
                "seconds": round(seconds, 6),
                "model_version": self._service.version,
            }
            if trace.traceparent is not None:
                fields["trace_id"] = trace_id_of(trace.traceparent)
            logger.debug("request", extra=fields)

    def _trace_of(self, context: Any) -> Trace:
        metadata = dict(context.invocation_metadata() or ())
        request_id, parent, state = (
            value.encode() if isinstance(value, str) else None
            for value in map(metadata.get, ("x-request-id", "traceparent", "tracestate"))
        )
        return trace_of(self._ids.of(request_id), parent, state)

    async def _model_ready(self, request: Any, trace: Trace) -> Any:
        self._check_model(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._is_ready())

    async def _model_metadata(self, request: Any, trace: Trace) -> Any:
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

    async def _infer(self, request: Any, trace: Trace) -> Any:
        self._check_model(request.model_name, request.model_version)
        service = self._choice.of(request.outputs)
        service.check_room()
        infer = parse_request(request, service.inputs, service.outputs)
        payload, rows = service.parse_v2(infer.inputs)
        call: FutureCall[Any, Any] = FutureCall(payload, rows, trace)
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


class GrpcServer:
    """The gRPC server of one model."""

    def __init__(
        self,
        service: ModelService[Any, Any],
        metrics: ServingMetrics,
        settings: ServerSettings,
        tracer: Tracer | None = None,
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._settings = settings
        self._tracer = tracer
        self._server: grpc.aio.Server | None = None
        self._health: HealthServicer | None = None

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
        servicer = InferenceServicer(self._service, self._metrics, self._tracer)
        self._health = HealthServicer(self._service, _SERVICE)
        registrar = Registrar(server, servicer.count_refused)
        pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, registrar)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        names = (_SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflected = reflection.aio.ReflectionServicer((*names, reflection.SERVICE_NAME))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, registrar)
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
        if self._health is not None:
            self._health.stop()
        if self._server is not None:
            await self._server.stop(grace_s)


def _id_of(trace: Trace) -> tuple[str, str]:
    return "x-request-id", trace.request_id.decode()


async def _abort(context: Any, trace: Trace, error: BaseException, message: str) -> NoReturn:
    trailing = [_id_of(trace)]
    retry_after = retry_after_of(error)
    if retry_after is not None:
        trailing.append(("retry-after", str(retry_after)))
    context.set_trailing_metadata(tuple(trailing))
    await context.abort(getattr(grpc.StatusCode, status_of(error).grpc), message)
    raise AssertionError  # abort never returns
