"""A caller that sends and does not read."""

from __future__ import annotations

import asyncio

from serving.http import HttpRequest
from serving.http_server import HttpServer
from serving.settings import ServerSettings

ANSWER = b"x" * 4096
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
LIMIT = 64 * 1024 * 1024


async def _send_until_stuck(writer: asyncio.StreamWriter) -> int:
    """How many requests a peer takes before it stops reading; `LIMIT` bytes at most."""
    sent = 0
    while sent * len(REQUEST) < LIMIT:
        writer.write(REQUEST * 1000)
        sent += 1000
        try:
            async with asyncio.timeout(1.0):
                await writer.drain()
        except TimeoutError:
            return sent
    return sent


async def test_a_caller_that_does_not_read_is_not_read_from() -> None:
    """The server stops reading, answers nothing twice, and goes on once the caller reads."""
    answered = 0

    def handle(request: HttpRequest) -> None:
        nonlocal answered
        answered += 1
        request.respond(200, ANSWER)

    server = HttpServer(ServerSettings(), handle, lambda _request, _status: None)
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        sent = await _send_until_stuck(writer)
        assert sent * len(REQUEST) < LIMIT, "the server never stopped reading"
        assert answered < sent

        answers = 0
        async with asyncio.timeout(60):
            while answers < sent:
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(len(ANSWER)) == ANSWER
                answers += 1

        assert answered == sent
    finally:
        writer.close()
        await server.drain(1.0)
