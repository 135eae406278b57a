"""The REST front behind a foreign HTTP server: for Ray Serve, whose replicas speak ASGI.

The application, and with it every answer and error, is the same as behind our own protocol. The
server in front makes and echoes `x-request-id`, as Ray Serve does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

from nimbusguard.contract.errors import RequestTooLarge
from serving.app import RestApp
from serving.http_message import HttpRequest
from serving.tracing import RequestIds

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Answer(NamedTuple):
    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


class _Exchange:
    """Collects the answer to one request."""

    def __init__(self, app: RestApp[Any, Any]) -> None:
        self._app = app
        self.done: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()

    @property
    def is_closed(self) -> bool:
        """Whether the caller has gone."""
        return self.done.cancelled()

    def answer(
        self,
        request: HttpRequest,
        status: int,
        body: bytes,
        content_type: bytes,
        headers: Mapping[bytes, bytes],
    ) -> None:
        """Keep the answer for the server to send."""
        self._app.observe(request, status)
        if self.done.done():
            return
        lines = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *headers.items(),
        ]
        self.done.set_result(_Answer(status, b"" if request.method == b"HEAD" else body, lines))


class AsgiFront:
    """A `RestApp` as an ASGI application.

    Args:
        app: Answers the requests.
        max_body_bytes: Larger bodies are refused with 413.
    """

    def __init__(self, app: RestApp[Any, Any], max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; other kinds of connection are not taken."""
        if scope["type"] != "http":
            return
        exchange = _Exchange(self._app)
        request = HttpRequest(exchange, scope["method"].encode(), scope["raw_path"] or b"/")
        request.headers = {name.lower(): value for name, value in scope["headers"]}
        request.request_id = self._ids.of(request.headers.get(b"x-request-id"))
        try:
            request.body = await self._read_body(receive)
        except RequestTooLarge as error:
            request.fault = error
        self._app.handle(request)
        answer = await exchange.done
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    async def _read_body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                reason = (
                    f"body: expected at most {self._max_body_bytes} bytes, got {size}; "
                    "send fewer rows at a time"
                )
                raise RequestTooLarge(reason)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
