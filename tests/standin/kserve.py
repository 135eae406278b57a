"""A stand-in for the transformer: the packaged model behind V1, healthy or failing on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from model_store.metadata import ONNX_FILE
from model_store.packaged import packaged_store
from nimbusguard.client.local_model import LocalModel, ModelIdentity
from nimbusguard.client.observation import Observation
from nimbusguard.contract.features import NAMES

NAN = float("nan")


def packaged_model() -> LocalModel:
    """The version that is served unless somebody asks for another."""
    verified = packaged_store().verify("nimbusguard-dqn", "production")
    identity = ModelIdentity(
        name=verified.metadata.name,
        version=verified.metadata.version,
        fingerprint=verified.metadata.fingerprint,
    )
    return LocalModel.from_onnx(verified.files[ONNX_FILE], identity)


class StandInKserve:
    """Answers as a model would; `change` makes of the answer what a test wants."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.status = 200
        self.hang: asyncio.Event | None = None
        self.change: Callable[[dict[str, Any]], object] = lambda document: document
        self.asked: list[int] = []
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.url = ""

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.add_routes(
            [
                web.post("/v1/models/nimbusguard-dqn:predict", self._predict),
                web.get("/v1/models/nimbusguard-dqn", self._ready),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """As if the pod were killed; `start` brings it back at the same address."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _ready(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "nimbusguard-dqn", "ready": self.status == 200})

    async def _predict(self, request: web.Request) -> web.Response:
        instances = (await request.json())["instances"]
        self.asked.append(len(instances))
        if self.hang is not None:
            await self.hang.wait()
        if self.status != 200:
            return web.json_response({"error": "made to fail"}, status=self.status)
        decisions = self.model.decide([_observation(instance) for instance in instances])
        document: object = {"predictions": [decision.to_dict() for decision in decisions]}
        document = self.change(document)  # type: ignore[arg-type]
        if isinstance(document, str):
            return web.Response(text=document)
        return web.json_response(document)


def _observation(instance: dict[str, Any]) -> Observation:
    values = (instance.get(name) for name in NAMES)
    return Observation(
        values=tuple(NAN if value is None else float(value) for value in values),
        current_replicas=instance["current_replicas"],
        min_replicas=instance["min_replicas"],
        max_replicas=instance["max_replicas"],
    )
