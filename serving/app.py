"""The REST front of a model: routes, V1 and V2 REST, errors. One application a server.

Every route is answered here, from a table that is made once. KServe's repository routes are left
out on purpose: they would let any caller unload the model.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

import orjson
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from nimbusguard import __version__
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, NotFound, Overloaded
from nimbusguard.contract.tensors import (
    InferRequest,
    check_outputs,
    infer_document,
    parse_infer,
)
from nimbusguard.telemetry.spans import Tracer
from serving.calls import Call, ModelService, OutputChoice, Trace
from serving.console import ConsoleRoutes
from serving.distributions import Distribution
from serving.http_message import HttpRequest
from serving.metrics import ServingMetrics
from serving.openapi import openapi_document
from serving.status import retry_after_of, status_of
from serving.tracing import begin, begin_sampled, trace_id_of, trace_of

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")
Handler = Callable[[HttpRequest], None]

logger = logging.getLogger(__name__)

_OCTETS: Final = b"application/octet-stream"
_HEADER_LENGTH: Final = b"inference-header-content-length"
_MAX_DIGITS: Final = 20
_SERVER_ERROR: Final = 500
_NOTHING: Final = memoryview(b"")
_OVERLOADED: Final = b'{"error":"overloaded: as many requests wait as may; retry, or add replicas"}'
_RETRY_SOON: Final = {b"retry-after": b"%d" % Overloaded.retry_after_s}
_VERSIONED: Final = re.compile(rb"/v2/models/([^/]+)/versions/([^/]+)(/ready|/infer)?")
_MODEL: Final = re.compile(rb"/v[12]/models/([^/:]+)(?:[:/].*)?")


class RestApp(Generic[PayloadT, ResultT]):
    """Answers requests for one model."""

    def __init__(
        self,
        service: ModelService[PayloadT, ResultT],
        metrics: ServingMetrics,
        tracer: Tracer | None = None,
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._choice = OutputChoice(service)
        self._tracer = tracer
        self._answers: dict[tuple[str, int], Distribution] = {}
        self._openapi = orjson.dumps(openapi_document(service))
        self._routes = self._make_routes()

    def handle(self, request: HttpRequest) -> None:
        """Answer one request. The outermost loop of a request: nothing gets past it."""
        if self._service.is_full and request.method == b"POST" and request.fault is None:
            # At twice the capacity half of all requests end here: it has to cost next to nothing.
            request.route = "overloaded"
            request.respond(503, _OVERLOADED, headers=_RETRY_SOON)
            return
        try:
            self._dispatch(request)
        except NimbusGuardError as error:
            fail(request, error)
        except Exception as error:
            # A defect of ours, never the caller's doing: told once, with its traceback.
            logger.exception("unexpected error", extra=_identity(request))
            fail(request, error)

    def observe(self, request: HttpRequest, status: int) -> None:
        """Count an answer."""
        seconds = time.perf_counter() - request.started
        answers = self._answers.get((request.route, status))
        if answers is None:
            answers = self._metrics.answers(request.route, str(status))
            self._answers[request.route, status] = answers
        answers.observe(seconds)
        span = None if request.trace is None else request.trace.span
        if span is not None:
            answers.exemplify(seconds, span.trace_id)
            span.set("http.response.status_code", status)
            span.end(f"answered {status}" if status >= _SERVER_ERROR else None)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "request",
                extra={
                    **_identity(request),
                    "route": request.route,
                    "status": status,
                    "seconds": round(seconds, 6),
                    "model_version": self._service.version,
                },
            )

    def _dispatch(self, request: HttpRequest) -> None:
        if request.fault is not None:
            raise request.fault
        methods = self._routes.get(request.path)
        if methods is None:
            methods = self._find(request.path)
        handler = methods.get(request.method)
        if handler is None:
            allow = b", ".join(sorted(methods))
            message = f"method: expected {allow.decode()}, got {request.method.decode('latin-1')}"
            body = _error_body(message)
            request.respond(HTTPStatus.METHOD_NOT_ALLOWED, body, headers={b"allow": allow})
            return
        handler(request)

    # Routes

    def _make_routes(self) -> dict[bytes, Mapping[bytes, Handler]]:
        name = self._service.name.encode()
        v1, v2 = b"/v1/models/" + name, b"/v2/models/" + name
        routes: dict[bytes, Mapping[bytes, Handler]] = {
            b"/": _get(self._alive),
            b"/metrics": _get(self._scrape),
            b"/openapi.json": _get(self._describe_api),
            b"/v1/models": _get(self._list_v1),
            v1: _get(self._model_ready),
            v1 + b":predict": {b"POST": self._predict},
            b"/v2": _get(self._server_metadata),
            b"/v2/health/live": _get(self._live),
            b"/v2/health/ready": _get(self._server_ready),
            b"/v2/models": _get(self._list_v2),
            v2: _get(self._model_metadata),
            v2 + b"/ready": _get(self._model_ready),
            v2 + b"/infer": {b"POST": self._infer},
        }
        if self._service.explanation is not None:
            routes[v1 + b":explain"] = {b"POST": self._explain}
        if self._service.console is not None:
            routes |= ConsoleRoutes(self._service.console, fail).table()
        return routes

    def _find(self, path: bytes) -> Mapping[bytes, Handler]:
        """Paths in other spellings: percent-encoded, with a trailing slash, with a version.

        Raises:
            NotFound: There is no such path, model or version.
        """
        path = unquote_to_bytes(path).rstrip(b"/")
        versioned = _VERSIONED.fullmatch(path)
        name = self._service.name
        if versioned and versioned[1] == name.encode():
            asked, version = versioned[2].decode(errors="replace"), self._service.version
            if asked != version:
                message = f"version: expected {version}, the loaded one, got {asked[:60]!r}"
                raise NotFound(message)
            path = b"/v2/models/" + versioned[1] + (versioned[3] or b"")
        methods = self._routes.get(path)
        if methods is not None:
            return methods
        model = _MODEL.fullmatch(path)
        if model and model[1] != name.encode():
            asked = model[1].decode(errors="replace")
            message = f"model: expected {name!r}, the only one here, got {asked[:60]!r}"
            raise NotFound(message)
        shown = path[:80].decode(errors="replace")
        message = f"path: expected one of those in /openapi.json, got {shown!r}"
        raise NotFound(message)

    # Health and metadata

    def _alive(self, request: HttpRequest) -> None:
        request.route = "live"
        request.respond(200, b'{"status":"alive"}')

    def _live(self, request: HttpRequest) -> None:
        request.route = "live"
        request.respond(200, b'{"live":true}')

    def _server_ready(self, request: HttpRequest) -> None:
        request.route = "ready"
        self._service.check_ready()
        request.respond(200, b'{"ready":true}')

    def _model_ready(self, request: HttpRequest) -> None:
        request.route = "ready"
        self._service.check_ready()
        _send(request, {"name": self._service.name, "ready": True})

    def _list_v1(self, request: HttpRequest) -> None:
        request.route = "metadata"
        _send(request, {"models": [self._service.name]})

    def _list_v2(self, request: HttpRequest) -> None:
        request.route = "metadata"
        _send(request, {"models": [self._service.name]})

    def _server_metadata(self, request: HttpRequest) -> None:
        request.route = "metadata"
        _send(request, server_metadata(self._service))

    def _model_metadata(self, request: HttpRequest) -> None:
        request.route = "metadata"
        _send(request, model_metadata(self._service))

    def _describe_api(self, request: HttpRequest) -> None:
        request.route = "metadata"
        request.respond(200, self._openapi)

    def _scrape(self, request: HttpRequest) -> None:
        request.route = "metrics"
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        encoder, content_type = choose_encoder(accept)
        request.respond(200, encoder(REGISTRY), content_type.encode())

    # Inference

    def _begin(self, request: HttpRequest, route: str) -> None:
        request.route = route
        headers = request.headers
        parent = headers.get(b"traceparent")
        if parent is not None:
            trace = trace_of(request.request_id, parent, headers.get(b"tracestate"))
            request.trace = begin(self._tracer, route, trace, self._service)
        elif self._tracer is not None and self._tracer.by_chance():
            trace = Trace(request.request_id)
            request.trace = begin_sampled(self._tracer, route, trace, self._service)

    def _predict(self, request: HttpRequest) -> None:
        self._begin(request, "v1_predict")
        _answer_v1(request, self._service)

    def _explain(self, request: HttpRequest) -> None:
        self._begin(request, "v1_explain")
        explanation = self._service.explanation
        assert explanation is not None, "the route is there only with it"  # noqa: S101
        explanation.check_room()
        _answer_v1(request, explanation)

    def _infer(self, request: HttpRequest) -> None:
        self._begin(request, "v2_infer")
        document, tail = _split_binary(request)
        infer = parse_infer(document, tail, self._service.inputs)
        service = self._choice.of(infer.outputs or ())
        if service is not self._service:
            _now_explains(request)
            service.check_room()
        check_outputs(infer, service.outputs)
        payload, rows = service.parse_v2(infer.inputs)
        call = _V2Call(payload, rows, request, service)
        call.infer = infer
        service.submit(call)


class _RestCall(Call[PayloadT, ResultT]):
    """A call that answers an HTTP request."""

    __slots__ = ("request", "service")

    def __init__(
        self,
        payload: PayloadT,
        rows: int,
        request: HttpRequest,
        service: ModelService[PayloadT, ResultT],
    ) -> None:
        super().__init__(payload, rows, request.trace or Trace(request.request_id))
        self.request = request
        self.service = service

    def fail(self, error: BaseException) -> None:
        fail(self.request, error)

    @property
    def is_abandoned(self) -> bool:
        return self.request.is_abandoned


class _V1Call(_RestCall[PayloadT, ResultT]):
    __slots__ = ()

    def succeed(self, result: ResultT) -> None:
        self.request.respond(200, self.service.v1_body(result))


class _V2Call(_RestCall[PayloadT, ResultT]):
    __slots__ = ("infer",)
    infer: InferRequest

    def succeed(self, result: ResultT) -> None:
        document, tail = infer_document(self.service.v2_response(result), self.infer)
        body = orjson.dumps(document)
        if not tail:
            self.request.respond(200, body)
            return
        headers = {_HEADER_LENGTH: b"%d" % len(body)}
        self.request.respond(200, body + b"".join(tail), _OCTETS, headers)


def _answer_v1(request: HttpRequest, service: ModelService[Any, Any]) -> None:
    payload, rows = service.parse_v1(parse_json(request))
    request.body = b""  # a large one must not wait for its answer beside its rows
    service.submit(_V1Call(payload, rows, request, service))


def _now_explains(request: HttpRequest) -> None:
    """Count a V2 request for an explanation by itself: it costs a thousand predictions."""
    request.route = "v2_explain"
    if request.trace is not None and request.trace.span is not None:
        request.trace.span.name = request.route


def fail(request: HttpRequest, error: BaseException) -> None:
    """Answer with an error in the one shape that errors have."""
    status = status_of(error)
    if isinstance(error, NimbusGuardError):
        body = _error_body(str(error))
    else:
        body = _error_body("internal error; the log has the reason under this x-request-id")
    retry_after = retry_after_of(error)
    headers = {} if retry_after is None else {b"retry-after": b"%d" % retry_after}
    request.respond(status.http, body, headers=headers)


def _identity(request: HttpRequest) -> dict[str, str]:
    """The fields of a log line by which a request is found again."""
    fields = {"request_id": request.request_id.decode("latin-1")}
    if request.trace is not None and request.trace.traceparent is not None:
        fields["trace_id"] = trace_id_of(request.trace.traceparent)
    return fields


def parse_json(request: HttpRequest) -> Any:
    """The body as JSON, whatever its content type says.

    Raises:
        InvalidRequest: It is none.
    """
    encoding = request.headers.get(b"content-encoding", b"identity")
    if encoding.lower() not in (b"identity", b""):
        message = f"content-encoding: expected none, got {encoding.decode('latin-1')!r}"
        raise InvalidRequest(message)
    return _loads(request.body)


def server_metadata(service: ModelService[Any, Any]) -> dict[str, Any]:
    """V2 server metadata."""
    return {
        "name": f"nimbusguard-{service.component}",
        "version": __version__,
        "extensions": ["binary_tensor_data"],
    }


def model_metadata(service: ModelService[Any, Any]) -> dict[str, Any]:
    """V2 model metadata."""
    version = service.version
    return {
        "name": service.name,
        "versions": [version] if version else [],
        "platform": service.platform,
        "inputs": [spec.document() for spec in service.inputs],
        "outputs": [spec.document() for spec in service.outputs],
    }


def _split_binary(request: HttpRequest) -> tuple[Any, memoryview]:
    """The JSON part of a V2 body and the binary part behind it."""
    declared = request.headers.get(_HEADER_LENGTH)
    if declared is None:
        return parse_json(request), _NOTHING
    body = memoryview(request.body)
    # The length first: Python refuses to convert more than 4,300 digits.
    if not declared.isdigit() or len(declared) > _MAX_DIGITS or int(declared) > len(body):
        message = (
            f"{_HEADER_LENGTH.decode()}: expected a number up to the body's {len(body)} bytes, "
            f"got {declared[:40].decode('latin-1')!r}"
        )
        raise InvalidRequest(message)
    length = int(declared)
    return _loads(body[:length]), body[length:]


def _loads(data: bytes | memoryview) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        message = f"body: expected JSON, got {len(data)} bytes that are none: {error}"
        raise InvalidRequest(message) from None


def _get(handler: Handler) -> Mapping[bytes, Handler]:
    return {b"GET": handler, b"HEAD": handler}


def _send(request: HttpRequest, document: Mapping[str, Any]) -> None:
    request.respond(200, orjson.dumps(document))


def _error_body(message: str) -> bytes:
    # A message may quote what a caller sent, lone surrogates included; those have no UTF-8.
    clean = message.encode("utf-8", "replace").decode()
    return orjson.dumps({"error": clean})
