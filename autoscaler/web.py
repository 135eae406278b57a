"""The operator's own HTTP: metrics, the two probes of the kubelet, and the console."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry

from autoscaler.exposition import exposition
from nimbusguard.console.api import ConsoleApi
from nimbusguard.console.assets import API, HEADERS, ROOT, assets
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, NotFound


async def serve(
    host: str,
    port: int,
    registry: CollectorRegistry,
    *,
    alive: Callable[[], bool],
    ready: Callable[[], bool],
    console: ConsoleApi | None = None,
) -> tuple[web.AppRunner, int]:
    """Listen.

    Args:
        host: Address to bind.
        port: Port; 0 takes a free one.
        registry: What `/metrics` shows.
        alive: `/healthz`: whether the loop turns.
        ready: `/readyz`: whether the policies are known.
        console: `/console/`; None to leave it out.

    Returns:
        What to clean up at the end, and the port.
    """

    async def metrics(request: web.Request) -> web.Response:
        accept = request.headers.get("accept", "")
        # In a thread: a thousand workloads take 0.1 s to write, and decisions do not wait for it.
        body, content_type = await asyncio.to_thread(exposition, registry, accept)
        return web.Response(body=body, headers={"content-type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return _state(alive())

    async def readyz(_: web.Request) -> web.Response:
        return _state(ready())

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    if console is not None:
        app.add_routes(_console_routes(console))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, int(runner.addresses[0][1])


def _state(good: bool) -> web.Response:
    return web.json_response({"ok": good}, status=200 if good else 503)


def _console_routes(console: ConsoleApi) -> list[web.RouteDef]:
    async def page(request: web.Request) -> web.Response:
        asset = assets().get(request.match_info["name"])
        if asset is None:
            return _error(404, f"path: expected a file of the console, got {request.path[:80]!r}")
        headers = {**HEADERS, "content-type": asset.content_type}
        return web.Response(body=asset.body, headers=headers)

    async def document(request: web.Request) -> web.Response:
        try:
            answer = await console.answer(request.match_info["name"], request.query)
        except NotFound as error:
            return _error(404, str(error))
        except InvalidRequest as error:
            return _error(400, str(error))
        except NimbusGuardError as error:
            return _error(503, str(error))
        return web.json_response(answer, headers=HEADERS)

    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect(ROOT)

    return [
        web.get(ROOT.rstrip("/"), redirect),
        web.get(API + "{name}", document),
        web.get(ROOT + "{name:[^/]*}", page),
    ]


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status, headers=HEADERS)
