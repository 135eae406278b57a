"""A transformer made of a function, and a clock that only moves when a test or a pause moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from nimbusguard.client import AsyncClient, Client, ClientSettings, Endpoint
from nimbusguard.contract.fingerprint import FINGERPRINT

Handler = Callable[[httpx.Request], httpx.Response]

ROW: dict[str, Any] = {
    "action": "SCALE_UP_1",
    "action_index": 3,
    "replica_change": 1,
    "current_replicas": 4,
    "target_replicas": 5,
    "q_values": [-0.41, 0.02, 0.55, 0.83, 0.79],
    "q_margin": 0.04,
    "allowed_actions": ["SCALE_DOWN_2", "SCALE_DOWN_1", "NO_ACTION", "SCALE_UP_1", "SCALE_UP_2"],
    "clipped_features": [],
    "imputed_features": ["response_time_p95"],
    "model_name": "nimbusguard-dqn",
    "model_version": "2",
    "fingerprint": FINGERPRINT,
}


class FakeTime:
    """Seconds that pass only on demand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Caller:
    """Calls one method of a client, async or sync, against a handler."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.time = FakeTime()
        self.requests: list[httpx.Request] = []
        self.settings = ClientSettings(endpoint=Endpoint(base_url="http://transformer"))

    def __call__(self, handler: Handler, method: str, *args: Any, **kwargs: Any) -> Any:
        def recording(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return handler(request)

        transport = httpx.MockTransport(recording)
        rng = np.random.default_rng(7)
        if self.kind == "sync":
            with Client(
                self.settings,
                transport=transport,
                clock=self.time.clock,
                sleep=self.time.sleep,
                rng=rng,
            ) as client:
                return getattr(client, method)(*args, **kwargs)

        async def ask() -> Any:
            async with AsyncClient(
                self.settings,
                transport=transport,
                clock=self.time.clock,
                sleep=self.time.asleep,
                rng=rng,
            ) as client:
                return await getattr(client, method)(*args, **kwargs)

        return asyncio.run(ask())
