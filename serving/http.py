"""HTTP/1.1 on asyncio and httptools: one protocol object a connection, no framework behind it.

A request costs its parsing and one call of the application; all else is precomputed. The manners of
HTTP (413 before the body, `Upgrade: h2c`, `Connection: close` in shutdown) are kept here and
nowhere else. Not here: routes, JSON, the model.

Source: RFC 9110 and RFC 9112; the parser is llhttp.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol, cast

import httptools

from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, RequestTooLarge

JSON: Final = b"application/json"
NO_HEADERS: Final[Mapping[bytes, bytes]] = {}
_MAX_HEAD_BYTES: Final = 65_536
"""Request line and headers together; the limit that common proxies set."""
_MAX_PIPELINED: Final = 16
"""Requests of one connection that may wait for their turn before reading pauses."""
_MAX_DISCARDED_BYTES: Final = 64 * 1024 * 1024
"""A refused body is read and thrown away, to keep the connection, up to this size."""
MAX_REQUEST_ID: Final = 128
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Shared(Protocol):
    """What all connections of one server have in common."""

    max_body_bytes: int
    is_draining: bool
    date: bytes
    connections: set[HttpConnection]

    next_request_id: Callable[[], bytes]
    """An id for a request that came without one."""
    handle: Callable[[HttpRequest], None]
    """Answers a request, now or later, exactly once. Must not raise."""
    observe: Callable[[HttpRequest, int], None]
    """Counts an answer."""


class Answerer(Protocol):
    """Where the answer to a request goes."""

    @property
    def is_closed(self) -> bool:
        """Whether nobody waits for it any more."""

    def answer(
        self,
        request: HttpRequest,
        status: int,
        body: bytes,
        content_type: bytes,
        headers: Mapping[bytes, bytes],
    ) -> None:
        """Send it."""


class HttpRequest:
    """One request and the means to answer it."""

    __slots__ = (
        "_connection",
        "_url",
        "body",
        "fault",
        "headers",
        "keep_alive",
        "method",
        "request_id",
        "route",
        "started",
    )

    def __init__(self, connection: Answerer, method: bytes, url: bytes) -> None:
        self._connection = connection
        self._url = url
        self.method = method
        self.headers: dict[bytes, bytes] = {}
        self.body: bytes = b""
        self.fault: NimbusGuardError | None = None
        """What is wrong with the request as HTTP; the application answers with it."""
        self.keep_alive = True
        self.request_id = b""
        self.route = "other"
        """A bounded name for metrics, set by the application."""
        self.started = time.perf_counter()

    @property
    def path(self) -> bytes:
        """The path without query or fragment, as it came."""
        url = self._url
        if url[:1] != b"/":
            url = httptools.parse_url(url).path or b"/"
        end = url.find(b"?")
        return url if end < 0 else url[:end]

    @property
    def is_abandoned(self) -> bool:
        """Whether the caller has gone, so that work for it is in vain."""
        return self._connection.is_closed

    def respond(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        headers: Mapping[bytes, bytes] = NO_HEADERS,
    ) -> None:
        """Send the answer."""
        self._connection.answer(self, status, body, content_type, headers)


class HttpConnection(asyncio.Protocol):
    """One connection: requests are answered in the order in which they came."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._active: HttpRequest | None = None
        self._pending: deque[HttpRequest] = deque()
        self._is_paused = False
        self._is_blocked = False
        self._is_starting = False
        self._has_eof = False
        self.last_active = time.perf_counter()
        # The request that is being read.
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._is_refused = False
        self._in_message = False
        self._began = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read, waits or is being answered."""
        return self._active is None and not self._pending and not self._in_message

    def receiving_s(self, now: float) -> float:
        """Seconds since the request began that is still arriving; 0 without one, or if we wait."""
        return now - self._began if self._in_message and not self._is_paused else 0.0

    def close(self) -> None:
        """Close once what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part in the server's count."""
        self._transport = cast("asyncio.Transport", transport)
        self._shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Forget what nobody waits for; requests under way are answered into the void."""
        self._shared.connections.discard(self)
        self._transport = None
        self._pending.clear()

    def eof_received(self) -> bool:
        """Keep the sending half open while an answer is due: `nc -N` and others close theirs."""
        self._has_eof = True
        return self._active is not None

    def pause_writing(self) -> None:
        """The caller does not read its answers: take no more requests from it until it does."""
        self._is_blocked = True
        self._pause_reading()

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._is_blocked = False
        self._start_pending()
        self._resume_reading()

    def data_received(self, data: bytes) -> None:
        """Parse; complete requests start from here."""
        self.last_active = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._resume_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse_connection(f"expected an HTTP/1.1 request, got one with: {error}")

    # httptools callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_message = True
        self._began = self.last_active
        self._url = b""
        self._headers = {}
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0
        self._is_refused = False

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of equal ones the last counts, which none that we read may be."""
        self._headers[name.lower()] = value
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Refuse a body that is declared too large before it comes; wave a waiting client on."""
        if self._is_upgrade():
            return  # llhttp stops here; the request is parsed again without the header
        limit = self._shared.max_body_bytes
        declared = self._headers.get(b"content-length")
        if declared is not None and int(declared) > limit:
            self._refuse_body(int(declared))
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        if self._is_refused:
            if self._body_bytes > _MAX_DISCARDED_BYTES:
                self.close()
            return
        if self._body_bytes > self._shared.max_body_bytes:
            self._refuse_body(self._body_bytes)
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._is_upgrade():
            return
        self._in_message = False
        if self._is_refused:
            return
        request = self._new_request()
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._enqueue(request)

    # Reading

    def _is_upgrade(self) -> bool:
        return bool(self._parser.should_upgrade())

    def _resume_without_upgrade(self, rest: bytes) -> None:
        """Read on after `Upgrade: h2c`, which we ignore as RFC 9110, 7.8 allows.

        llhttp leaves the body unparsed then, so the head is fed again without the header.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse_connection("expected a method for a resource, got CONNECT")
            return
        dropped = (b"upgrade", b"connection", b"http2-settings")
        lines = [method + b" " + self._url + b" HTTP/1.1"]
        lines += [
            name + b": " + value for name, value in self._headers.items() if name not in dropped
        ]
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _MAX_HEAD_BYTES and not self.is_closed:
            self._refuse_connection(
                f"expected at most {_MAX_HEAD_BYTES} bytes of request line and headers, got more"
            )

    def _refuse_body(self, size: int) -> None:
        """Answer at once, then read the body into nothing, so that the connection survives.

        Only a client that waits for `100 Continue` may or may not send the body after a refusal
        (RFC 9110, 10.1.1), so there the connection cannot be kept.
        """
        self._is_refused = True
        self._body = []
        request = self._new_request()
        limit = self._shared.max_body_bytes
        request.fault = RequestTooLarge(
            f"body: expected at most {limit} bytes, got {size}; send fewer rows at a time"
        )
        if b"expect" in self._headers or size > _MAX_DISCARDED_BYTES:
            request.keep_alive = False
        self._enqueue(request)

    def _refuse_connection(self, reason: str) -> None:
        """What came is no HTTP: say so and close, as the next request cannot be found."""
        if self.is_closed or self._active is not None:
            self.close()
            return
        self._in_message = False
        request = HttpRequest(self, b"", b"/")
        request.keep_alive = False
        request.request_id = self._shared.next_request_id()
        request.fault = InvalidRequest(reason)
        self._enqueue(request)

    def _new_request(self) -> HttpRequest:
        request = HttpRequest(self, self._parser.get_method(), self._url)
        request.headers = self._headers
        request.keep_alive = self._parser.should_keep_alive()
        given = self._headers.get(b"x-request-id")
        request.request_id = given[:MAX_REQUEST_ID] if given else self._shared.next_request_id()
        return request

    # Answering

    def _enqueue(self, request: HttpRequest) -> None:
        if self._active is None and not self._is_blocked:
            self._active = request
            self._shared.handle(request)
            return
        self._pending.append(request)
        if len(self._pending) >= _MAX_PIPELINED:
            self._pause_reading()

    def answer(
        self,
        request: HttpRequest,
        status: int,
        body: bytes,
        content_type: bytes,
        headers: Mapping[bytes, bytes],
    ) -> None:
        """Send an answer and begin with the next request of the connection."""
        self._shared.observe(request, status)
        transport = self._transport
        if transport is None or transport.is_closing():
            self._active = None
            return
        is_last = self._shared.is_draining or self._has_eof
        closes = not request.keep_alive or (is_last and not self._pending)
        head = (
            b"%bcontent-type: %b\r\ncontent-length: %d\r\ndate: %b\r\nx-request-id: %b\r\n%b%b\r\n"
            % (
                _STATUS_LINES[status],
                content_type,
                len(body),
                self._shared.date,
                request.request_id,
                b"connection: close\r\n" if closes else b"",
                b"".join(b"%b: %b\r\n" % pair for pair in headers.items()) if headers else b"",
            )
        )
        transport.write(head if request.method == b"HEAD" else head + body)
        self._active = None
        self.last_active = time.perf_counter()
        if closes:
            transport.close()
        elif self._pending:
            self._start_pending()

    def _start_pending(self) -> None:
        """Begin with what waits; a loop, since answers given at once would recurse."""
        if self._is_starting:
            return
        self._is_starting = True
        while self._pending and self._active is None and not self._is_blocked:
            self._active = self._pending.popleft()
            self._resume_reading()
            self._shared.handle(self._active)
        self._is_starting = False

    def _pause_reading(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        """Read on, unless what was read already waits, or the caller does not read either."""
        if not self._is_paused or self._is_blocked or len(self._pending) >= _MAX_PIPELINED:
            return
        if self._transport is not None and not self._transport.is_closing():
            self._is_paused = False
            self._began = time.perf_counter()  # the wait was ours
            self._transport.resume_reading()
