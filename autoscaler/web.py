"""The operator's own HTTP: metrics, and the two probes of the kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


async def serve(
    host: str,
    port: int,
    registry: CollectorRegistry,
    *,
    alive: Callable[[], bool],
    ready: Callable[[], bool],
) -> tuple[web.AppRunner, int]:
    """Listen.

    Args:
        host: Address to bind.
        port: Port; 0 takes a free one.
        registry: What `/metrics` shows.
        alive: `/healthz`: whether the loop turns.
        ready: `/readyz`: whether the policies are known.

    Returns:
        What to clean up at the end, and the port.
    """

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # In a thread: a thousand workloads take 0.2 s to write, and decisions do not wait for it.
        body = await asyncio.to_thread(encode, registry)
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
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, int(runner.addresses[0][1])


def _state(good: bool) -> web.Response:
    return web.json_response({"ok": good}, status=200 if good else 503)
