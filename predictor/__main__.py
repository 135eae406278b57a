"""`python -m predictor`: serve one version of the network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from serving.deferred import defer_pandas

defer_pandas()  # before anything that imports the SDK

from model_store.packaged import packaged_path, packaged_store
from predictor.loader import load_version
from predictor.service import PredictorService
from predictor.settings import predictor_settings, version_directory
from serving.flags import MODEL_NAME, make_parser, parse_flags, run_main
from serving.metrics import ServingMetrics
from serving.model import ServedModel
from serving.server import Server
from serving.settings import ServerSettings


def serve(settings: ServerSettings) -> None:
    """Load, then serve until told to stop."""
    parser = make_parser("predictor")
    parser.add_argument("--model_dir", help="version directory; goes before MODEL_DIR")
    flags = parse_flags(parser, None)
    own = predictor_settings(os.environ, flags.model_dir)
    network = load_version(version_directory(own, _packaged_version))
    metrics = ServingMetrics("predictor", flags.model_name)
    service = PredictorService(flags.model_name, network, settings, metrics)
    model = ServedModel(service)
    model.load()
    Server(service, metrics, settings, flags).start([model])


def _packaged_version() -> Path:
    """The directory of the packaged store's production version."""
    version = packaged_store().resolve(MODEL_NAME, "production")
    return packaged_path() / MODEL_NAME / version


if __name__ == "__main__":
    sys.exit(run_main("predictor", dict(os.environ), serve))
