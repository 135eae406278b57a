"""What the client's tests share.

A transformer made of a function, a clock that only moves when a test or a pause moves it, a network
whose Q-values can be told in advance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nimbusguard.client import AsyncClient, Client, ClientSettings, Endpoint
from nimbusguard.client.local_model import LocalModel, ModelIdentity
from nimbusguard.client.observation import Observation
from nimbusguard.contract.features import NAMES
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


def linear_onnx(
    bias: Sequence[float] = (0.0, 0.0, 1.0, 0.0, 0.0), *, features: int = 11, actions: int = 5
) -> bytes:
    """A network whose Q-values are known: `0.001 * action * sum(state) + bias`."""
    steps = np.arange(actions, dtype=np.float32) * 0.001
    weights = np.broadcast_to(steps, (features, actions)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["state", "w", "b"], ["q_values"])],
        "linear",
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("q_values", TensorProto.FLOAT, ["batch", actions])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array(bias, dtype=np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


IDENTITY = ModelIdentity(name="nimbusguard-dqn", version="2", fingerprint=FINGERPRINT)


def local_model(bias: Sequence[float] = (0.0, 0.0, 1.0, 0.0, 0.0)) -> LocalModel:
    return LocalModel.from_onnx(linear_onnx(bias), IDENTITY)


BUSY = {
    "cpu_utilization": 0.9,
    "memory_utilization": 0.5,
    "network_io_rate": 1e5,
    "request_rate": 200.0,
    "pod_count": 4.0,
    "response_time_p95": 0.2,
    "error_rate": 0.0,
    "queue_depth": 3.0,
    "cpu_throttling": 0.0,
    "memory_pressure": 0.5,
    "node_utilization": 0.5,
}


def seen(current: int = 4, low: int = 1, high: int = 50, **metrics: float) -> Observation:
    """A busy workload, with some of its metrics replaced."""
    values = BUSY | metrics
    return Observation(
        values=tuple(values[name] for name in NAMES),
        current_replicas=current,
        min_replicas=low,
        max_replicas=high,
    )
