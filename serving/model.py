"""A service as a `kserve.Model`: what the SDK's registry holds, and what its own code may call.

Our fronts call the service directly. The SDK's data plane, an in-process graph or a test may call
the model as they call any other; they get the same answers through the same codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import orjson
from kserve import InferRequest, InferResponse, Model
from kserve.errors import InferenceError, InvalidInput, ModelNotReady

from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, Unavailable
from serving.calls import FutureCall, ModelService, OutputChoice
from serving.grpc_codec import parse_request, response_message
from serving.tracing import RequestIds, trace_of

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class ServedModel(Model, Generic[PayloadT, ResultT]):
    """Name, readiness, life cycle and prediction of one service, in the SDK's terms."""

    def __init__(self, service: ModelService[PayloadT, ResultT]) -> None:
        super().__init__(service.name)
        self._service = service
        self._choice = OutputChoice(service)
        self._ids = RequestIds()

    def load(self) -> bool:
        """Nothing to load: a service exists only once its parts do."""
        self.ready = True
        return True

    async def healthy(self) -> bool:
        """Whether the service answers now."""
        try:
            self._service.check_ready()
        except Unavailable:
            return False
        return bool(self.ready)

    def get_input_types(self) -> list[dict[str, Any]]:
        """V2 metadata."""
        return [spec.document() for spec in self._service.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """V2 metadata."""
        return [spec.document() for spec in self._service.outputs]

    async def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,  # noqa: ARG002 - the SDK's signature
    ) -> dict[str, Any] | InferResponse:
        """Answer a V1 body or a V2 request.

        Raises:
            InvalidInput, ModelNotReady, InferenceError: The SDK's names for our errors.
        """
        with _in_sdk_terms(self._service.name):
            if not isinstance(payload, InferRequest):
                return await self._v1(self._service, payload, headers)
            message = payload.to_grpc()
            service = self._choice.of(message.outputs)
            infer = parse_request(message, service.inputs, service.outputs)
            result = await self._ask(service, *service.parse_v2(infer.inputs), headers)
            answer = response_message(service.v2_response(result), infer, is_raw=False)
            return InferResponse.from_grpc(answer)

    async def explain(
        self, payload: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Answer a V1 body with explanations.

        Raises:
            InvalidInput, ModelNotReady, InferenceError: The SDK's names for our errors.
        """
        with _in_sdk_terms(self._service.name):
            explanation = self._service.explanation
            if explanation is None:
                message = f"explanation: {self._service.name} has none"
                raise InvalidRequest(message)
            return await self._v1(explanation, payload, headers)

    async def _v1(
        self, service: ModelService[Any, Any], body: object, headers: dict[str, str] | None
    ) -> dict[str, Any]:
        answer = service.v1_body(await self._ask(service, *service.parse_v1(body), headers))
        document: dict[str, Any] = orjson.loads(answer)
        return document

    async def _ask(
        self,
        service: ModelService[Any, Any],
        payload: Any,
        rows: int,
        headers: dict[str, str] | None,
    ) -> Any:
        given = headers or {}
        request_id, parent, state = (
            given[name].encode() if name in given else None
            for name in ("x-request-id", "traceparent", "tracestate")
        )
        trace = trace_of(self._ids.of(request_id), parent, state)
        call: FutureCall[Any, Any] = FutureCall(payload, rows, trace)
        service.submit(call)
        return await call.future


@contextmanager
def _in_sdk_terms(name: str) -> Iterator[None]:
    """Our errors under the SDK's names."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidInput(str(error)) from error
    except Unavailable as error:
        raise ModelNotReady(name, str(error)) from error
    except NimbusGuardError as error:
        raise InferenceError(str(error)) from error
