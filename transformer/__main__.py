"""`python -m transformer`: raw metrics to decisions, in front of a predictor."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from datetime import UTC, datetime

from serving.deferred import defer_unused

defer_unused()  # before anything that imports the SDK

from nimbusguard.telemetry.spans import Tracer
from nimbusguard.telemetry.tracing import tracing
from serving.flags import make_parser, parse_flags, run_main
from serving.metrics import ServingMetrics
from serving.model import ServedModel
from serving.server import Server
from serving.settings import InvalidSetting, ServerSettings
from transformer.hop import PredictorClient
from transformer.hop_grpc import GrpcPredictorClient
from transformer.hop_rest import RestPredictorClient
from transformer.lookup import WorkloadLookup
from transformer.readiness import PredictorProbe
from transformer.service import TransformerService
from transformer.settings import TransformerSettings, predictor_address, transformer_settings

_REST_PORT = 80
"""A Service's port; the controller injects `--predictor_host` without one."""
_GRPC_PORT = 8081
"""The port under which a Standard-mode Service shows the predictor's second container port."""


def serve(settings: ServerSettings) -> None:
    """Serve until told to stop."""
    parser = make_parser("transformer")
    parser.set_defaults(predictor_protocol="v2", predictor_request_timeout_seconds=None)
    flags = parse_flags(parser, None)
    settings = with_deadline(settings, flags)
    own = transformer_settings(os.environ)
    with tracing(os.environ, "transformer") as tracer:
        _run(settings, own, flags, tracer)


def _run(
    settings: ServerSettings,
    own: TransformerSettings,
    flags: argparse.Namespace,
    tracer: Tracer | None,
) -> None:
    metrics = ServingMetrics("transformer", flags.model_name)
    client = make_client(flags)
    probe = PredictorProbe(make_client(flags))
    lookup = WorkloadLookup(own.prometheus_endpoint)
    service = TransformerService(
        flags.model_name,
        client,
        probe,
        lookup,
        settings,
        absent_as_zero=own.absent_as_zero,
        metrics=metrics,
        now=_now if settings.console else None,
        tracer=tracer,
    )

    async def stop() -> None:
        await probe.stop()
        await client.close()
        await lookup.close()

    model = ServedModel(service)
    model.load()
    Server(
        service, metrics, settings, flags, tracer=tracer, on_start=probe.start, on_stop=stop
    ).start([model])


def _now() -> datetime:
    return datetime.now(UTC)


def with_deadline(settings: ServerSettings, flags: argparse.Namespace) -> ServerSettings:
    """The settings with the deadline that the SDK's flag asks for, which goes before ours.

    Raises:
        InvalidSetting: It leaves no time at all.
    """
    seconds = flags.predictor_request_timeout_seconds
    if seconds is None:
        return settings
    if seconds <= 0:
        message = f"--predictor_request_timeout_seconds: expected more than 0, got {seconds}"
        raise InvalidSetting(message)
    return dataclasses.replace(settings, deadline_s=float(seconds))


def make_client(flags: argparse.Namespace) -> PredictorClient:
    """The hop that the flags ask for.

    Raises:
        InvalidSetting: No predictor, or a protocol that cannot carry version and fingerprint.
    """
    host, port = predictor_address(flags.predictor_host or "")
    if flags.predictor_protocol == "v2":
        return RestPredictorClient(host, port or _REST_PORT, flags.model_name)
    if flags.predictor_protocol == "grpc-v2":
        return GrpcPredictorClient(host, port or _GRPC_PORT, flags.model_name)
    message = (
        f"--predictor_protocol: expected v2 or grpc-v2, got {flags.predictor_protocol!r}; V1 "
        "cannot say which version and fingerprint answered"
    )
    raise InvalidSetting(message)


if __name__ == "__main__":
    sys.exit(run_main("transformer", dict(os.environ), serve))
