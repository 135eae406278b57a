"""Finished spans to a collector, as OTLP over gRPC, from a thread of its own.

Spans wait in a bounded queue as they are, and are written and sent once a second: written one by
one as they end they cost several times as much (docs/metrics.md). A collector that is away costs
spans, never a request: what does not fit is dropped, and the log says so once an outage.

Source: OpenTelemetry Protocol 1.x, `opentelemetry/proto/collector/trace/v1`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service_pb
from opentelemetry.proto.common.v1 import common_pb2 as common_pb
from opentelemetry.proto.resource.v1 import resource_pb2 as resource_pb

from nimbusguard import __version__
from nimbusguard.telemetry.otlp_wire import request_of

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
_SERVICE: Final = service_pb.DESCRIPTOR.services_by_name["TraceService"].full_name


class Exporter:
    """Sends the spans of one process.

    Args:
        endpoint: `http://host:port`, or `https://` with TLS.
        resource: What is said of the process.
    """

    def __init__(self, endpoint: str, resource: Mapping[str, str]) -> None:
        parts = urlsplit(endpoint)
        target = f"{parts.hostname}:{parts.port or _DEFAULT_PORT}"
        self._channel = (
            grpc.secure_channel(target, grpc.ssl_channel_credentials())
            if parts.scheme == "https"
            else grpc.insecure_channel(target)
        )
        # Without the library's stub: what travels is written already, and nothing is read of the
        # answer.
        self._send = self._channel.unary_unary(f"/{_SERVICE}/Export")
        self._resource = _resource(resource)
        self._scope = _scope()
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
            spans = [self._waiting.popleft().encoded() for _ in range(count)]
            try:
                request = request_of(spans, self._resource, self._scope)
                self._send(request, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                if not self._is_away:
                    reason = {"spans": count, "error": str(error.code())}
                    _LOG.warning("traces not delivered", extra=reason)
                self._is_away = True
                return
            self._is_away = False


def _resource(about: Mapping[str, str]) -> bytes:
    """What is said of the process."""
    resource = resource_pb.Resource()
    for key, value in about.items():
        resource.attributes.add(key=key).value.string_value = value
    said: bytes = resource.SerializeToString()
    return said


def _scope() -> bytes:
    """What is said of the program that made the spans."""
    scope = common_pb.InstrumentationScope(name="nimbusguard", version=__version__)
    said: bytes = scope.SerializeToString()
    return said
