"""`python -m transformer`: raw metrics to decisions, in front of a predictor."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys

from serving.deferred import defer_pandas

defer_pandas()  # before anything that imports the SDK

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
from transformer.settings import transformer_settings

_REST_PORT = 80
"""A Service's port; the controller injects `--predictor_host` without one."""
_GRPC_PORT = 8081
"""The port under which a Standard-mode Service shows the predictor's second container port."""


def serve(settings: ServerSettings) -> None:
    """Serve until told to stop."""
    parser = make_parser("transformer")
    parser.set_defaults(predictor_protocol="v2", predictor_request_timeout_seconds=None)
    flags = parse_flags(parser, None)
    if flags.predictor_request_timeout_seconds is not None:
        deadline_s = float(flags.predictor_request_timeout_seconds)
        settings = dataclasses.replace(settings, deadline_s=deadline_s)
    own = transformer_settings(os.environ)
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
    )

    async def stop() -> None:
        await probe.stop()
        await client.close()
        await lookup.close()

    model = ServedModel(service)
    model.load()
    Server(service, metrics, settings, flags, on_start=probe.start, on_stop=stop).start([model])


def make_client(flags: argparse.Namespace) -> PredictorClient:
    """The hop that the flags ask for.

    Raises:
        InvalidSetting: No predictor, or a protocol that cannot carry version and fingerprint.
    """
    if not flags.predictor_host:
        message = "--predictor_host: expected the predictor's host or host:port, got nothing"
        raise InvalidSetting(message)
    host, _, port = flags.predictor_host.rpartition(":")
    if not host or not port.isdigit():
        host, port = flags.predictor_host, ""
    if flags.predictor_protocol == "v2":
        return RestPredictorClient(host, int(port or _REST_PORT), flags.model_name)
    if flags.predictor_protocol == "grpc-v2":
        return GrpcPredictorClient(host, int(port or _GRPC_PORT), flags.model_name)
    message = (
        f"--predictor_protocol: expected v2 or grpc-v2, got {flags.predictor_protocol!r}; V1 "
        "cannot say which version and fingerprint answered"
    )
    raise InvalidSetting(message)


if __name__ == "__main__":
    sys.exit(run_main("transformer", dict(os.environ), serve))
