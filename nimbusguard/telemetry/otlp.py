"""Finished spans to a collector, as OTLP over gRPC, from a thread of its own.

Spans wait in a bounded queue and travel once a second. A collector that is away costs spans, never
a request: what does not fit is dropped, and the log says so once an outage.

Source: OpenTelemetry Protocol 1.x, `opentelemetry/proto/collector/trace/v1`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.common.v1 import common_pb2 as common_pb
from opentelemetry.proto.trace.v1 import trace_pb2 as trace_pb

from nimbusguard import __version__
from nimbusguard.telemetry.spans import Kind, Value

if TYPE_CHECKING:
    from nimbusguard.telemetry.otel import OtelSpan

_LOG: Final = logging.getLogger(__name__)
_PERIOD_S: Final = 1.0
_MAX_WAITING: Final = 8192
"""Spans that wait; about 4 MiB."""
_MAX_SENT: Final = 512
"""Spans of one message; the SDK's default."""
_TIMEOUT_S: Final = 2.0
_DEFAULT_PORT: Final = 4317
_KINDS: Final = {
    Kind.INTERNAL: trace_pb.Span.SPAN_KIND_INTERNAL,
    Kind.SERVER: trace_pb.Span.SPAN_KIND_SERVER,
    Kind.CLIENT: trace_pb.Span.SPAN_KIND_CLIENT,
}


class Exporter:
    """Sends the spans of one process.

    Args:
        endpoint: `http://host:port`, or `https://` with TLS.
        resource: What is said of the process.
    """

    def __init__(self, endpoint: str, resource: Mapping[str, Value]) -> None:
        parts = urlsplit(endpoint)
        target = f"{parts.hostname}:{parts.port or _DEFAULT_PORT}"
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials())
            if parts.scheme == "https"
            else grpc.insecure_channel(target)
        )
        stub: Any = service_grpc.TraceServiceStub
        self._send = stub(self._channel).Export
        self._resource = resource
        self._waiting: deque[OtelSpan] = deque(maxlen=_MAX_WAITING)
        self._is_away = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def take(self, span: OtelSpan) -> None:
        """Queue a finished span; the oldest makes room if there is none."""
        self._waiting.append(span)

    def close(self) -> None:
        """Send what is left, for as long as a message under way and one more may take."""
        self._closing.set()
        self._thread.join(2 * _TIMEOUT_S)
        self._channel.close()

    def _run(self) -> None:
        while not self._closing.wait(_PERIOD_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), _MAX_SENT)
            spans = [self._waiting.popleft() for _ in range(count)]
            try:
                self._send(request_of(spans, self._resource), timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                if not self._is_away:
                    reason = {"spans": count, "error": str(error.code())}
                    _LOG.warning("traces not delivered", extra=reason)
                self._is_away = True
                return
            self._is_away = False


def request_of(spans: Iterable[OtelSpan], resource: Mapping[str, Value]) -> Any:
    """One message with all spans."""
    request = service_pb.ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(_attributes(resource))
    scope = group.scope_spans.add()
    scope.scope.name, scope.scope.version = "nimbusguard", __version__
    scope.spans.extend([_message(span) for span in spans])
    return request


def _message(span: OtelSpan) -> Any:
    message = trace_pb.Span(
        trace_id=span.trace,
        span_id=span.id,
        parent_span_id=span.parent_id,
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_attributes(span.attributes),
    )
    if span.tracestate is not None:
        message.trace_state = span.tracestate.decode("latin-1")
    for other in span.links:
        message.links.add(trace_id=other.trace, span_id=other.id)
    if span.error is not None:
        message.status.code = trace_pb.Status.STATUS_CODE_ERROR
        message.status.message = span.error
    return message


def _attributes(values: Mapping[str, Value]) -> list[Any]:
    return [common_pb.KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Value) -> Any:
    if isinstance(value, bool):
        return common_pb.AnyValue(bool_value=value)
    if isinstance(value, int):
        return common_pb.AnyValue(int_value=value)
    if isinstance(value, float):
        return common_pb.AnyValue(double_value=value)
    return common_pb.AnyValue(string_value=value)
