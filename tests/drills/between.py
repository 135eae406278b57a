"""A real server's answers, changed on the way: what a broken server or network would say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from aiohttp import web

Change = Callable[[Any], object]
_CLOSES_S = 0.2


def nothing(document: Any) -> object:
    return document


def workload_of(answer: Any) -> str:
    """Whose metrics an answer of Prometheus holds: the operator's workload, or the HPA's."""
    return next((series["metric"]["workload"] for series in answer["data"]["result"]), "")


class Between:
    """An HTTP proxy before one server, honest until a drill makes it lie."""

    def __init__(self, target: str, path: str) -> None:
        """Nothing listens yet.

        Args:
            target: The real server.
            path: Whose answers a fault changes, as its ending; others pass as they are.
        """
        self.target = target
        """The real server; another one takes its place after a restart."""
        self._path = path
        self._runner: web.AppRunner | None = None
        self.url = ""
        self.heal()

    def heal(self) -> None:
        """Pass everything on as it is."""
        self.change: Change = nothing
        self.status: int | None = None
        self.delay_s = 0.0
        self.gone = False

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Between]:
        """Serve on a free port while the block runs."""
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSES_S)
        async with aiohttp.ClientSession() as self._session:
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await self._runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        faulty = request.path.endswith(self._path)
        question = await request.read()
        if faulty and self.delay_s:
            await asyncio.sleep(self.delay_s)
        if faulty and self.status is not None:
            return web.json_response({"error": "made to fail"}, status=self.status)
        content_type = request.headers.get("content-type", "application/json")
        if self.gone:
            return _broken(request)
        try:
            async with self._session.request(
                request.method,
                f"{self.target}{request.path_qs}",
                data=question or None,
                headers={"content-type": content_type},
            ) as response:
                body, status = await response.read(), response.status
        except aiohttp.ClientError:
            return _broken(request)
        if faulty and status == 200 and self.change is not nothing:
            changed = self.change(orjson.loads(body))
            body = changed.encode() if isinstance(changed, str) else orjson.dumps(changed)
        return web.Response(body=body, status=status, content_type="application/json")


def _broken(request: web.Request) -> web.Response:
    """As if the server itself had been asked: the connection ends without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=502)
