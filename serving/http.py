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
from collections.abc import Mapping
from typing import Final, Protocol, cast

import httptools

from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, RequestTooLarge
from serving.http_message import HttpRequest, response_head
from serving.tracing import RequestIds

_MAX_HEAD_BYTES: Final = 65_536
"""Request line and headers together; the limit that common proxies set."""
_MAX_PIPELINED: Final = 16
"""Requests of one connection that may wait for their turn before reading pauses."""
_MAX_DISCARDED_BYTES: Final = 64 * 1024 * 1024
"""A refused body is read and thrown away, to keep the connection, up to this size."""
LINGER_S: Final = 2.0
"""After the last answer, what a client still sends is read for so long (seconds).

Closing a socket with unread bytes resets the connection, and a reset takes the answer from a client
that has not read it yet (RFC 9112, 9.6)."""


class Shared(Protocol):
    """What all connections of one server have in common."""

    max_body_bytes: int
    is_draining: bool
    date: bytes
    connections: set[HttpConnection]
    ids: RequestIds

    def handle(self, request: HttpRequest) -> None:
        """Answer a request, now or later, exactly once. Must not raise."""

    def observe(self, request: HttpRequest, status: int) -> None:
        """Count an answer."""


class HttpConnection(asyncio.Protocol):
    """One connection: requests are answered in the order in which they came."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._active: HttpRequest | None = None
        self._pending: deque[HttpRequest] = deque()
        self._is_starting = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._is_broken = False
        self._has_eof = False
        self.is_lingering = False
        """Whether the last answer is out and what still comes is thrown away."""
        self._lingered_bytes = 0
        self.last_active = time.perf_counter()
        # The request that is being read.
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._is_refused = False
        self._in_head = False
        self._in_message = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self.is_lingering or self._transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read, waits or is being answered."""
        return self._active is None and not self._pending and not self._in_message

    @property
    def is_reading(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        return self._in_message and self._active is None

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
        return self._active is not None or bool(self._pending)

    def pause_writing(self) -> None:
        """The caller does not read its answers: let no more of them gather here."""
        self._is_writing_paused = True
        self._throttle()

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._is_writing_paused = False
        self._start_next()

    def data_received(self, data: bytes) -> None:
        """Parse; complete requests start from here."""
        if self.is_lingering:
            self._discard(len(data))
            return
        self.last_active = time.perf_counter()
        head = self._headers if self._in_head else None
        rest: bytes | None = data
        while rest is not None and not self._is_broken:
            rest = self._feed(rest)
        if self._in_head and head is self._headers:  # the same head, before and after
            # One header without an end never reaches `on_header`, so it is counted as it comes.
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._refuse_connection(_head_too_large())

    # httptools callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_message = self._in_head = True
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
        self._in_head = False
        if self._is_upgrade():
            return  # llhttp stops here; the request is parsed again without the header
        limit = self._shared.max_body_bytes
        declared = self._headers.get(b"content-length")
        if declared is not None and int(declared) > limit:
            self._refuse_body(int(declared))
        elif self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._wave_on()

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
        self._body = []
        self._enqueue(request)

    # Reading

    def _feed(self, data: bytes) -> bytes | None:
        """Parse; what is still to be parsed after an `Upgrade`, or None."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            raised = error.__context__  # by one of the callbacks above
            if not isinstance(raised, NimbusGuardError):
                raised = InvalidRequest(f"expected an HTTP/1.1 request, got one with: {error}")
            self._refuse_connection(raised)
        return None

    def _is_upgrade(self) -> bool:
        return bool(self._parser.should_upgrade())

    def _without_upgrade(self, rest: bytes) -> bytes | None:
        """The same bytes without `Upgrade: h2c`, which we ignore as RFC 9110, 7.8 allows.

        llhttp leaves the body unparsed then, so the head is fed again without the header.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            message = "expected a method for a resource, got CONNECT"
            self._refuse_connection(InvalidRequest(message))
            return None
        dropped = (b"upgrade", b"connection", b"http2-settings")
        lines = [method + b" " + self._url + b" HTTP/1.1"]
        lines += [
            name + b": " + value for name, value in self._headers.items() if name not in dropped
        ]
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join(lines) + b"\r\n\r\n" + rest

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise _head_too_large()

    def _wave_on(self) -> None:
        """Ask for the body, unless that would stand before the answer to an earlier request."""
        is_first = self._active is None and not self._pending
        if is_first and self._transport and self._parser.get_http_version() != "1.0":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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

    def _refuse_connection(self, fault: NimbusGuardError) -> None:
        """What came is no HTTP: say so in its turn, and close, as the next request is lost."""
        self._is_broken = True
        self._in_message = self._in_head = False
        request = HttpRequest(self, b"", b"/")
        request.keep_alive = False
        request.request_id = self._shared.ids.next()
        request.fault = fault
        self._enqueue(request)

    def _new_request(self) -> HttpRequest:
        request = HttpRequest(self, self._parser.get_method(), self._url)
        request.headers = headers = self._headers
        request.keep_alive = self._parser.should_keep_alive()
        if b"connection" in headers:
            request.is_http_1_0 = self._parser.get_http_version() == "1.0"
        request.request_id = self._shared.ids.of(headers.get(b"x-request-id"))
        return request

    # Answering

    def _enqueue(self, request: HttpRequest) -> None:
        if self._active is None and not self._pending and not self._is_writing_paused:
            self._active = request
            self._shared.handle(request)
            return
        self._pending.append(request)
        self._throttle()

    def answer(
        self,
        request: HttpRequest,
        status: int,
        body: bytes,
        content_type: bytes,
        headers: Mapping[bytes, bytes],
    ) -> None:
        """Send an answer and begin with the next request of the connection."""
        if request is not self._active:
            return  # it has been answered: a second answer would belong to the next request
        self._active = None
        self._shared.observe(request, status)
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        is_last = self._shared.is_draining or self._has_eof
        closes = not request.keep_alive or (is_last and not self._pending)
        stays = b"keep-alive" if request.is_http_1_0 else b""
        head = response_head(
            status,
            content_type,
            len(body),
            self._shared.date,
            request.request_id,
            connection=b"close" if closes else stays,
            headers=headers,
        )
        transport.write(head if request.method == b"HEAD" else head + body)
        self.last_active = time.perf_counter()
        if closes and (self._is_broken or self._in_message) and not self._has_eof:
            self._linger(transport)
        elif closes:
            transport.close()
        elif self._pending:
            self._start_next()

    def _linger(self, transport: asyncio.Transport) -> None:
        """The last answer is out and the client is still sending: let it finish, then close."""
        self.is_lingering = True
        self._pending.clear()
        if self._is_reading_paused:
            transport.resume_reading()
        transport.write_eof()

    def _discard(self, size: int) -> None:
        self._lingered_bytes += size
        if self._lingered_bytes > _MAX_DISCARDED_BYTES and self._transport is not None:
            self._transport.abort()

    def _start_next(self) -> None:
        """Begin with what waits, one after the other as long as answers come at once.

        A loop, because thousands of pipelined requests would be as many levels of recursion.
        """
        if self._is_starting:
            return
        self._is_starting = True
        while self._pending and self._active is None and not self._is_writing_paused:
            if self.is_closed:
                self._pending.clear()
                break
            self._active = self._pending.popleft()
            self._shared.handle(self._active)
        self._is_starting = False
        self._throttle()

    def _throttle(self) -> None:
        """Read only as much as can be answered and sent."""
        transport = self._transport
        is_full = self._is_writing_paused or len(self._pending) >= _MAX_PIPELINED
        if transport is None or transport.is_closing() or is_full == self._is_reading_paused:
            return
        self._is_reading_paused = is_full
        if is_full:
            transport.pause_reading()
        else:
            transport.resume_reading()


def _head_too_large() -> InvalidRequest:
    return InvalidRequest(
        f"expected at most {_MAX_HEAD_BYTES} bytes of request line and headers, got more"
    )
