"""Finished spans to a collector, as OTLP over gRPC, from a thread of its own.

Spans wait in a bounded queue as they are, and are written and sent together, every five seconds or
when a message is full: written one by one as they end they cost several times as much
(docs/metrics.md), and many small messages cost both ends more than a large one. A collector that is
away costs spans, never a request: what does not fit is dropped, and the log says so once an outage.

Source: OpenTelemetry Protocol 1.x, `opentelemetry/proto/collector/trace/v1`.
"""

from __future__ import annotations

import logging
import threading
import time
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
_PERIOD_S: Final = 5.0
"""A span waits so long at most; the SDK's default."""
_MAX_WAITING: Final = 8192
"""Spans that wait; about 4 MiB."""
_MAX_SENT: Final = 2048
"""Spans of one message: about 0.4 MiB of the 4 that a collector takes by default."""
_WRITTEN_AT_ONCE: Final = 512
"""Spans that are written before a waiting event loop may run: about 1 ms."""
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
        self._is_closing = False
        self._is_due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def take(self, span: OtelSpan) -> None:
        """Queue a finished span; the oldest makes room if there is none."""
        self._waiting.append(span)
        if len(self._waiting) == _MAX_SENT:
            self._is_due.set()

    def close(self) -> None:
        """Send what is left, for as long as a message under way and one more may take."""
        self._is_closing = True
        self._is_due.set()
        self._thread.join(2 * _TIMEOUT_S)
        self._channel.close()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._is_due.wait(_PERIOD_S)
            self._is_due.clear()
            is_last = self._is_closing  # looked at before: what comes until the close is sent
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), _MAX_SENT)
            try:
                request = request_of(self._written(count), self._resource, self._scope)
                self._send(request, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                if not self._is_away:
                    reason = {"spans": count, "error": str(error.code())}
                    _LOG.warning("traces not delivered", extra=reason)
                self._is_away = True
                return
            self._is_away = False

    def _written(self, count: int) -> list[bytes]:
        """The next spans as they travel."""
        written: list[bytes] = []
        while len(written) < count:
            more = min(count - len(written), _WRITTEN_AT_ONCE)
            written += [self._waiting.popleft().encoded() for _ in range(more)]
            # Lets go of the interpreter's lock: of 2,048 spans the loop waits 1.4 ms instead of 5.
            time.sleep(0)
        return written


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
