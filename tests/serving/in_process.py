"""Both services without a network between them, and calls that remember how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.packaged import packaged_path
from nimbusguard.contract.fingerprint import FINGERPRINT
from predictor.loader import LoadedModel, load_version
from predictor.service import PredictorService
from serving.calls import Call, Trace
from serving.metrics import ServingMetrics
from serving.settings import ServerSettings
from tests.service.processes import VERSION
from transformer.explain_tensors import HopExplanation
from transformer.hop import HopAnswer
from transformer.lookup import WorkloadLookup
from transformer.readiness import PredictorProbe
from transformer.service import TransformerService

MODEL = "nimbusguard-dqn"
ROW = [0.93, 0.55, 120000, 85, 4, 0.31, 0.002, 12, 0.2, 0.6, 0.5]
STATE = [0.93, 0.55, 0.12, 0.085, 0.0625, 0.062, 0.02, 0.12, 0.2, 0.6, 0.5]


class Outcome(Call[Any, Any]):
    """A call that remembers its end, and that there was only one."""

    __slots__ = ("ended", "error", "gone", "result")

    def __init__(self, payload: Any, rows: int) -> None:
        super().__init__(payload, rows, Trace(b"id"))
        self.result: Any = None
        self.error: BaseException | None = None
        self.gone = False
        self.ended = asyncio.get_running_loop().create_future()

    def succeed(self, result: Any) -> None:
        self.result = result
        self.ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.ended.set_result(None)

    @property
    def is_abandoned(self) -> bool:
        return self.gone


class Network:
    """What a `LoadedModel` is to its service, with answers that a test makes."""

    def __init__(self, infer: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.infer = infer
        self.metadata = packaged_network().metadata
        self.explainer = packaged_network().explainer


def packaged_network() -> LoadedModel:
    return load_version(packaged_path() / MODEL / VERSION)


def predictor_service(network: Any = None, **settings: Any) -> PredictorService:
    metrics = ServingMetrics("predictor", MODEL)
    loaded = packaged_network() if network is None else network
    return PredictorService(MODEL, loaded, ServerSettings(**settings), metrics)


class DirectClient:
    """The hop to a predictor in the same process.

    Args:
        infer: The network.
    """

    def __init__(self, infer: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.infer_states = infer
        self.batches: list[int] = []
        self.deadlines: list[float] = []
        self.gate = asyncio.Event()
        """A hop waits for it, so that a test can let requests gather."""
        self.gate.set()

    address = "127.0.0.1:8082"

    async def infer(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopAnswer:
        self.batches.append(len(state))
        self.deadlines.append(deadline_at)
        await self.gate.wait()
        return HopAnswer(self.infer_states(state), "1", FINGERPRINT)

    async def explain(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopExplanation:
        explainer = packaged_network().explainer
        assert explainer is not None
        await self.gate.wait()
        return HopExplanation(*explainer.explain(state), "1", FINGERPRINT)

    async def close(self) -> None:
        """Nothing to close."""


def transformer_service(
    client: DirectClient, absent_as_zero: tuple[str, ...] = (), **settings: Any
) -> TransformerService:
    return TransformerService(
        MODEL,
        client,
        PredictorProbe(client),
        WorkloadLookup(None),
        ServerSettings(**settings),
        absent_as_zero=absent_as_zero,
        metrics=ServingMetrics("transformer", MODEL),
    )


async def ask_all(service: Any, bodies: Sequence[Any]) -> list[Outcome]:
    """Submit V1 bodies together and wait until each has its end."""
    outcomes = [Outcome(*service.parse_v1(body)) for body in bodies]
    for outcome in outcomes:
        service.submit(outcome)
    await asyncio.gather(*(outcome.ended for outcome in outcomes))
    return outcomes
