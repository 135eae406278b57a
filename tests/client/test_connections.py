"""The clients on real sockets: what a transport made of a function cannot show."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nimbusguard.client import AsyncClient, Client, ClientSettings, Endpoint, RawVector
from nimbusguard.contract.errors import DeadlineExceeded, PredictorUnavailable
from tests.client.harness import ROW

pytestmark = pytest.mark.service

ASK = [RawVector(values=[0.5] * 11)]
Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def response(document: object) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request; b"" when the client has closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return head + await reader.readexactly(int(length[1]) if length else 0)


@asynccontextmanager
async def serving(session: Session) -> AsyncIterator[ClientSettings]:
    """A server on a free loopback port that holds `session` on each connection."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await session(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield ClientSettings(endpoint=Endpoint(base_url=f"http://127.0.0.1:{port}"))


async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep-alive, as a transformer does it."""
    while request := await read_request(reader):
        rows = json.loads(request.partition(b"\r\n\r\n")[2])["instances"]
        writer.write(response({"predictions": [ROW] * len(rows)}))
        await writer.drain()
        if b"connection: close" in request.lower():
            return


async def test_connections_are_kept_and_renewed_now_and_then() -> None:
    """Ten requests with a renewal at every fourth use three connections."""
    connections = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await polite(reader, writer)

    async with (
        serving(counting) as settings,
        AsyncClient(replace(settings, connection_requests=4)) as client,
    ):
        for _ in range(10):
            await client.decide(ASK)

    assert connections == 3


async def test_a_kept_connection_that_the_server_closed_costs_no_decision() -> None:
    """Answer once, then hang up on the next request: the client asks again on a new connection."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(response({"predictions": [ROW]}))
        await writer.drain()
        await read_request(reader)

    async with serving(hang_up) as settings, AsyncClient(settings) as client:
        for _ in range(5):
            assert len(await client.decide(ASK)) == 1


async def test_a_server_that_trickles_its_headers_is_left_at_the_deadline() -> None:
    """Every byte comes in time, the answer does not; the async deadline is absolute."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not writer.is_closing():
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(0.005)

    async with serving(trickle) as settings, AsyncClient(settings) as client:
        start = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await client.decide(ASK, deadline_s=0.1)
        assert asyncio.get_running_loop().time() - start < 1.0


async def test_a_port_that_nobody_serves_is_an_unreachable_predictor() -> None:
    """After the attempts that fit; no exception of the HTTP library comes out."""
    async with serving(polite) as settings:
        pass

    async with AsyncClient(settings) as client:
        with pytest.raises(PredictorUnavailable, match="could not connect"):
            await client.decide(ASK, deadline_s=0.3)


async def test_a_server_that_speaks_no_http_is_an_unusable_answer() -> None:
    """Garbage instead of a status line."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"\x00\x01 not http\r\n\r\n")
        await writer.drain()

    async with serving(garbage) as settings, AsyncClient(settings) as client:
        with pytest.raises(PredictorUnavailable):
            await client.decide(ASK, deadline_s=0.5)


async def test_one_sync_client_serves_many_threads() -> None:
    """Eight threads, one client, no answer lost."""
    async with serving(polite) as settings:
        with Client(settings) as client:
            answers = await asyncio.gather(
                *(asyncio.to_thread(client.decide, ASK * (n % 3 + 1)) for n in range(40))
            )

    assert [len(decisions) for decisions in answers] == [n % 3 + 1 for n in range(40)]


async def test_the_examples_of_the_page_run() -> None:
    """Every Python block of docs/client.md, as a program of its own, against a real socket."""
    page = (Path(__file__).parents[2] / "docs/client.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    async with serving(polite) as settings:
        environment = os.environ | {"KSERVE_ENDPOINT": settings.endpoint.base_url}
        for block in blocks:
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-c", block, env=environment, stdout=asyncio.subprocess.PIPE
            )
            printed, _ = await program.communicate()
            assert program.returncode == 0, block
            assert b"SCALE_UP_1" in printed

    assert len(blocks) >= 2
