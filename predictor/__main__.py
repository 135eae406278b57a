"""`python -m predictor`: serve one version of the network."""

from __future__ import annotations

import os
import sys

from serving.deferred import defer_unused

defer_unused()  # before anything that imports the SDK

from nimbusguard.telemetry.tracing import tracing
from predictor.assembly import assemble_predictor
from serving.flags import make_parser, parse_flags, run_main
from serving.model import ServedModel
from serving.server import Server
from serving.settings import ServerSettings


def serve(settings: ServerSettings) -> None:
    """Load, then serve until told to stop."""
    parser = make_parser("predictor")
    parser.add_argument("--model_dir", help="version directory; goes before MODEL_DIR")
    flags = parse_flags(parser, None)
    with tracing(os.environ, "predictor") as tracer:
        service, metrics = assemble_predictor(
            flags.model_name, settings, os.environ, flags.model_dir, tracer
        )
        model = ServedModel(service)
        model.load()
        Server(service, metrics, settings, flags, tracer=tracer).start([model])


if __name__ == "__main__":
    sys.exit(run_main("predictor", dict(os.environ), serve))
