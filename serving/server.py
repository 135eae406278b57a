"""The SDK's `ModelServer` with our fronts: its flags, its registry, its life cycle.

What is replaced, and why: the FastAPI application (it takes JSON by exact content type only, loses
bodies behind `Upgrade`, answers 422 and 500 in three shapes, and knows no request id); the gRPC
servicer (it ignores versions and fails on models that are not ready); the plain asyncio loop that
`ModelServer.start` uses even where uvloop is installed; and a shutdown that unloads the model while
requests are under way. `docs/decisions/0002-own-fronts.md` has the measurements.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from kserve import ModelServer
from kserve.model import BaseKServeModel
from prometheus_client import REGISTRY

from nimbusguard.telemetry.spans import Tracer
from serving.app import RestApp
from serving.calls import ModelService
from serving.grpc_server import GrpcServer
from serving.http_server import HttpServer
from serving.metrics import ServingMetrics
from serving.settings import InvalidSetting, ServerSettings

logger = logging.getLogger(__name__)

Hook = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """The default hook."""


class Server(ModelServer):
    """Serves one model over REST and gRPC in one process.

    Args:
        service: Answers the calls.
        metrics: Counts them.
        settings: Limits, timeouts, address.
        flags: The SDK's parsed flags.
        tracer: Records sampled requests; closed by whoever opened it.
        on_start: Awaited on the event loop before listening.
        on_stop: Awaited after the last answer.

    Raises:
        InvalidSetting: More than one worker was asked for.
    """

    def __init__(
        self,
        service: ModelService[Any, Any],
        metrics: ServingMetrics,
        settings: ServerSettings,
        flags: Any,
        *,
        tracer: Tracer | None = None,
        on_start: Hook = _nothing,
        on_stop: Hook = _nothing,
    ) -> None:
        check_workers(flags.workers)
        # Every argument is given: the SDK's defaults come from a command line parsed at import.
        super().__init__(
            http_port=flags.http_port,
            grpc_port=flags.grpc_port,
            workers=1,
            max_threads=flags.max_threads,
            max_asyncio_workers=flags.max_asyncio_workers,
            enable_grpc=flags.enable_grpc,
            enable_docs_url=False,
            enable_latency_logging=False,
            access_log_format=None,
            grace_period=int(settings.grace_s),
        )
        self._service = service
        self._metrics = metrics
        self._settings = settings
        self._tracer = tracer
        self._on_start = on_start
        self._on_stop = on_stop
        self._stopping = asyncio.Event()

    def start(self, models: list[BaseKServeModel]) -> None:
        """Register the models, serve until SIGTERM or SIGINT, drain, return.

        Raises:
            OSError: An address cannot be bound.
        """
        self._register_and_check_atleast_one_model_is_ready(models)
        REGISTRY.register(self._metrics)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    def stop(self, sig: int) -> None:
        """Begin to drain."""
        logger.info("stopping", extra={"signal": signal.Signals(sig).name})
        self._stopping.set()

    async def _serve(self) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, self.stop, sig)
        await self._on_start()
        app = RestApp(self._service, self._metrics, self._tracer)
        http = HttpServer(settings, app.handle, app.observe)
        grpc = GrpcServer(self._service, self._metrics, settings, self._tracer)
        http_port = await http.start(settings.host, self.http_port)
        grpc_port = None
        if self.enable_grpc:
            grpc_port = await grpc.start(settings.host, self.grpc_port)
        logger.info(
            "listening",
            extra={"host": settings.host, "http_port": http_port, "grpc_port": grpc_port},
        )
        # Modules and the model stay for good. Left to the collector, they were walked again and
        # again: half the CPU time of a request of 1,000 named rows (9.1 ms before, 4.1 ms after).
        gc.collect()
        gc.freeze()
        await self._stopping.wait()
        await asyncio.gather(http.drain(settings.grace_s), grpc.drain(settings.grace_s))
        await self._on_stop()
        for name in list(self.registered_models.get_models()):
            self.registered_models.unload(name)
        logger.info("stopped")


def check_workers(workers: int) -> None:
    """Refuse more than one process.

    Raises:
        InvalidSetting: With the reason.
    """
    if workers != 1:
        message = (
            f"--workers: expected 1, got {workers}: a TorchScript module cannot be sent to a "
            "worker process, a worker knows no predictor, and /metrics would show one worker by "
            "chance; use more replicas instead, and no containerConcurrency on the transformer"
        )
        raise InvalidSetting(message)
