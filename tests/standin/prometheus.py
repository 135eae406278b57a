"""A stand-in for Prometheus: instant queries for the features of workloads, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

from aiohttp import web

Metrics = dict[str, float]
_SELECTION = re.compile(r'namespace="([^"]+)", workload=~?"([^"]+)"')


class StandInPrometheus:
    """Answers with whatever `metrics` says of a workload; None says that it has no series."""

    def __init__(self, metrics: Callable[[str, str], Metrics | None]) -> None:
        self.metrics = metrics
        self.queries = 0
        self.status = 200
        self.hang: asyncio.Event | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.add_routes([web.post("/api/v1/query", self._query)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _query(self, request: web.Request) -> web.Response:
        self.queries += 1
        if self.hang is not None:
            await self.hang.wait()
        if self.status != 200:
            return web.Response(status=self.status, text="made to fail")
        query = str((await request.post())["query"])
        workloads = {
            (namespace, name.replace("\\", ""))
            for namespace, names in _SELECTION.findall(query)
            for name in names.split("|")
        }
        result = [
            {
                "metric": {
                    "__name__": f"nimbusguard:{feature}",
                    "namespace": namespace,
                    "workload": name,
                },
                "value": [1.0, str(value)],
            }
            for namespace, name in sorted(workloads)
            for feature, value in (self.metrics(namespace, name) or {}).items()
        ]
        answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return web.Response(text=json.dumps(answer), content_type="application/json")
