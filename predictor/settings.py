"""The predictor's own settings: where its model lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.settings import InvalidSetting, Reader

KSERVE_MODEL_DIR: Final = Path("/mnt/models")
"""Where KServe's storage initializer puts what `STORAGE_URI` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorSettings:
    """Settings of the predictor alone."""

    model_dir: Path | None = None
    """`MODEL_DIR` or `--model_dir`. A version directory; without it `/mnt/models` where that holds
    something, else the production version of the packaged store."""


def predictor_settings(
    environ: Mapping[str, str], model_dir: str | None = None
) -> PredictorSettings:
    """Read the settings; a flag goes before the environment."""
    given = model_dir or environ.get("MODEL_DIR")
    return PredictorSettings(model_dir=Path(given) if given else None)


def version_directory(settings: PredictorSettings, packaged: Callable[[], Path]) -> Path:
    """The directory to load.

    Args:
        settings: The settings.
        packaged: Gives the packaged store's production version; asked only when it is needed.
    """
    if settings.model_dir is not None:
        return settings.model_dir
    if KSERVE_MODEL_DIR.is_dir() and any(KSERVE_MODEL_DIR.iterdir()):
        return KSERVE_MODEL_DIR
    return packaged()


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """Settings of the predictor on Ray Serve."""

    min_replicas: int = 1
    """`NIMBUSGUARD_RAY_MIN_REPLICAS`. Replicas that always run."""
    max_replicas: int = 1
    """`NIMBUSGUARD_RAY_MAX_REPLICAS`. Above the minimum, Ray adds replicas under load; default the
    minimum."""
    target_ongoing_requests: float = 32.0
    """`NIMBUSGUARD_RAY_TARGET_ONGOING_REQUESTS`. Requests in flight that one replica should have; a
    replica answers 32 at once in about 10 ms."""
    cpus_per_replica: float = 1.0
    """`NIMBUSGUARD_RAY_CPUS_PER_REPLICA`. One event loop and one torch thread fill one core."""


def ray_settings(environ: Mapping[str, str]) -> RaySettings:
    """Read and check the settings.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    read = Reader(environ)
    default = RaySettings()
    minimum = read.integer("NIMBUSGUARD_RAY_MIN_REPLICAS", default.min_replicas, 1, 1000)
    settings = RaySettings(
        min_replicas=minimum,
        max_replicas=read.integer("NIMBUSGUARD_RAY_MAX_REPLICAS", minimum, 1, 1000),
        target_ongoing_requests=read.number(
            "NIMBUSGUARD_RAY_TARGET_ONGOING_REQUESTS", default.target_ongoing_requests, 0.1, 10_000
        ),
        cpus_per_replica=read.number(
            "NIMBUSGUARD_RAY_CPUS_PER_REPLICA", default.cpus_per_replica, 0.01, 1024
        ),
    )
    if settings.max_replicas < settings.min_replicas:
        message = (
            f"NIMBUSGUARD_RAY_MAX_REPLICAS: expected at least NIMBUSGUARD_RAY_MIN_REPLICAS "
            f"({settings.min_replicas}), got {settings.max_replicas}"
        )
        raise InvalidSetting(message)
    return settings
