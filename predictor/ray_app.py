"""The predictor as a Ray Serve application: many replicas, on many machines, behind HAProxy.

The SDK's `RayModel` is not used: it runs a local Ray inside one pod, never asks Ray for its health
and cannot send gRPC requests to a replica. Here a replica is the same service with the same answers
as in `python -m predictor`, and Ray brings placement, restarts and autoscaling. Requests reach a
replica directly through the HAProxy that Ray ships; its Python proxy costs 12 ms of CPU a request.
"""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import Any, Final

import grpc
import numpy as np
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from ray import serve
from ray.serve.metrics import Counter

from nimbusguard.contract.features import STATE_DIM
from nimbusguard.telemetry.settings import tracing_settings
from nimbusguard.telemetry.spans import Tracer
from nimbusguard.telemetry.tracing import open_tracer
from predictor.assembly import assemble_predictor
from predictor.service import PredictorService
from predictor.settings import RaySettings, ray_settings
from serving.app import RestApp
from serving.asgi import AsgiFront
from serving.calls import FutureCall, Trace
from serving.grpc_server import InferenceServicer
from serving.metrics import ServingMetrics
from serving.settings import ServerSettings, server_settings

APP_NAME: Final = "nimbusguard-predictor"
MODEL_NAME_KEY: Final = "MODEL_NAME"
"""Carries `--model_name` to the replicas."""
_METRICS_INTERVAL_S: Final = 5.0
_PROBE_STATE: Final = np.full((1, STATE_DIM), 0.5, dtype=np.float32)


class Replica:
    """What one replica process holds."""

    def __init__(
        self, service: PredictorService, metrics: ServingMetrics, tracer: Tracer | None
    ) -> None:
        self.service = service
        self.metrics = metrics
        self.tracer = tracer
        self.servicer = InferenceServicer(service, metrics, tracer)

    def front(self, settings: ServerSettings) -> AsgiFront:
        """The REST front."""
        return AsgiFront(RestApp(self.service, self.metrics, self.tracer), settings.max_body_bytes)


@cache
def replica() -> Replica:
    """The replica of this process; a process is one replica."""
    environ = os.environ  # noqa: TID251 - a replica's settings come from its environment alone
    settings = server_settings(environ)
    tracer = open_tracer(tracing_settings(environ), "predictor")
    predictor = assemble_predictor(environ[MODEL_NAME_KEY], settings, environ, tracer=tracer)
    return Replica(*predictor, tracer)


def _make_front() -> AsgiFront:
    return replica().front(server_settings(os.environ))  # noqa: TID251 - as above


@serve.deployment(name="predictor")
@serve.ingress(_make_front)
class PredictorDeployment:
    """One replica: REST through the ASGI front, gRPC through the methods named like its calls."""

    def __init__(self) -> None:
        self._replica = replica()
        self._exporter = asyncio.get_running_loop().create_task(self._export_metrics())

    async def check_health(self) -> None:
        """Ray's health check: one real inference."""
        service = self._replica.service
        call: FutureCall[Any, Any] = FutureCall(_PROBE_STATE, 1, Trace(b"health"))
        service.submit(call)
        await call.future

    async def ServerLive(self, request: Any, grpc_context: Any) -> Any:
        """Whether the process answers."""
        return await self._answer("ServerLive", request, grpc_context)

    async def ServerReady(self, request: Any, grpc_context: Any) -> Any:
        """Whether the model answers."""
        return await self._answer("ServerReady", request, grpc_context)

    async def ServerMetadata(self, request: Any, grpc_context: Any) -> Any:
        """Name, version and extensions."""
        return await self._answer("ServerMetadata", request, grpc_context)

    async def ModelReady(self, request: Any, grpc_context: Any) -> Any:
        """Whether the model answers."""
        return await self._answer("ModelReady", request, grpc_context)

    async def ModelMetadata(self, request: Any, grpc_context: Any) -> Any:
        """Tensors and versions."""
        return await self._answer("ModelMetadata", request, grpc_context)

    async def ModelInfer(self, request: Any, grpc_context: Any) -> Any:
        """Inference."""
        return await self._answer("ModelInfer", request, grpc_context)

    async def _answer(self, method: str, request: Any, grpc_context: Any) -> Any:
        try:
            return await getattr(self._replica.servicer, method)(request, _Context(grpc_context))
        except _AbortedError:
            return getattr(pb, f"{method}Response")()

    async def _export_metrics(self) -> None:
        """Tell Ray what was answered; it tags the numbers with the replica.

        A scrape of `/metrics` through the proxy meets one replica by chance.
        """
        counter = Counter(
            "nimbusguard_ray_requests",
            description="Requests answered, by route and status.",
            tag_keys=("route", "status"),
        )
        told: dict[tuple[str, str], int] = {}
        while True:
            await asyncio.sleep(_METRICS_INTERVAL_S)
            for (route, status), amount in self._replica.metrics.requests.items():
                new = amount - told.get((route, status), 0)
                if new:
                    counter.inc(new, tags={"route": route, "status": status})
                    told[route, status] = amount


class _AbortedError(Exception):
    """Ends a call whose status has been set."""


class _Context:
    """Ray's gRPC context with the `abort` that the servicer knows."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def invocation_metadata(self) -> Any:
        """The caller's metadata."""
        return self._context.invocation_metadata()

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Metadata behind the answer."""
        self._context.set_trailing_metadata(list(metadata))

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """Set the status and leave the call."""
        self._context.set_code(code)
        self._context.set_details(details)
        raise _AbortedError


def build_application(arguments: dict[str, str]) -> serve.Application:
    """What `import_path` of a Serve configuration names; settings come from the environment.

    Args:
        arguments: `model_name`, and `model_dir` where the packaged model is not the one to serve.
    """
    environ = os.environ  # noqa: TID251 - the manifest's environment is the configuration
    return make_application(
        server_settings(environ),
        ray_settings(environ),
        arguments["model_name"],
        arguments.get("model_dir"),
    )


def make_application(
    settings: ServerSettings, ray: RaySettings, model_name: str, model_dir: str | None
) -> serve.Application:
    """The application, with replicas and autoscaling from the settings.

    Args:
        settings: Limits of one replica.
        ray: How many replicas.
        model_name: The model's name in every path.
        model_dir: Version directory; it must exist on every node.
    """
    env_vars = {MODEL_NAME_KEY: model_name}
    if model_dir:
        env_vars["MODEL_DIR"] = model_dir
    scaling: dict[str, Any] = {"num_replicas": ray.min_replicas}
    if ray.max_replicas > ray.min_replicas:
        scaling = {
            "num_replicas": "auto",
            "autoscaling_config": {
                "min_replicas": ray.min_replicas,
                "max_replicas": ray.max_replicas,
                "target_ongoing_requests": ray.target_ongoing_requests,
            },
        }
    deployment: Any = PredictorDeployment
    application: serve.Application = deployment.options(
        **scaling,
        # The replica's own bounded queue answers 503 with Retry-After before this is reached.
        max_ongoing_requests=settings.max_waiting + 64,
        ray_actor_options={
            "num_cpus": ray.cpus_per_replica,
            "runtime_env": {"env_vars": env_vars},
        },
        health_check_period_s=1.0,
        health_check_timeout_s=2.0,
        graceful_shutdown_timeout_s=settings.grace_s,
    ).bind()
    return application
