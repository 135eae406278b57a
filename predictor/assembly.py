"""A predictor from its settings: what `python -m predictor` and a Ray replica have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from model_store.packaged import packaged_path, packaged_store
from nimbusguard.telemetry.spans import Tracer
from predictor.loader import load_version
from predictor.service import PredictorService
from predictor.settings import predictor_settings, version_directory
from serving.metrics import ServingMetrics
from serving.settings import ServerSettings

_PACKAGED_MODEL: Final = "nimbusguard-dqn"


class Predictor(NamedTuple):
    """A loaded predictor."""

    service: PredictorService
    metrics: ServingMetrics


def assemble_predictor(
    model_name: str,
    settings: ServerSettings,
    environ: Mapping[str, str],
    model_dir: str | None = None,
    tracer: Tracer | None = None,
) -> Predictor:
    """Load the version that the settings name.

    Raises:
        ArtifactCorrupted, IncompatibleModel, NonFiniteOutput: It cannot be served.
    """
    own = predictor_settings(environ, model_dir)
    network = load_version(version_directory(own, _packaged_version))
    metrics = ServingMetrics("predictor", model_name)
    service = PredictorService(model_name, network, settings, metrics, tracer)
    return Predictor(service, metrics)


def _packaged_version() -> Path:
    """The directory of the packaged store's production version."""
    version = packaged_store().resolve(_PACKAGED_MODEL, "production")
    return packaged_path() / _PACKAGED_MODEL / version
