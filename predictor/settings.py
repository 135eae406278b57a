"""The predictor's own settings: where its model lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from nimbusguard import environment
from nimbusguard.environment import InvalidSetting, Key, number, read_keys, whole

KSERVE_MODEL_DIR: Final = Path("/mnt/models")
"""Where KServe's storage initializer puts what `STORAGE_URI` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorSettings:
    """Settings of the predictor alone."""

    model_dir: Path | None = None
    """`MODEL_DIR` or `--model_dir`. A version directory; without it `/mnt/models` where that holds
    something, else the production version of the packaged store."""


KEYS: Final = (Key("MODEL_DIR", Path),)


def predictor_settings(
    environ: Mapping[str, str], model_dir: str | None = None
) -> PredictorSettings:
    """Read the settings; a flag goes before the environment."""
    settings = PredictorSettings(**read_keys(environ, KEYS))
    return replace(settings, model_dir=Path(model_dir)) if model_dir else settings


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


RAY_PREFIX: Final = "NIMBUSGUARD_RAY_"
RAY_KEYS: Final = (
    Key("NIMBUSGUARD_RAY_MIN_REPLICAS", whole(1, 1000), prefix=RAY_PREFIX),
    Key("NIMBUSGUARD_RAY_MAX_REPLICAS", whole(1, 1000), prefix=RAY_PREFIX),
    Key("NIMBUSGUARD_RAY_TARGET_ONGOING_REQUESTS", number(0.1, 10_000), prefix=RAY_PREFIX),
    Key("NIMBUSGUARD_RAY_CPUS_PER_REPLICA", number(0.01, 1024), prefix=RAY_PREFIX),
)


def ray_settings(environ: Mapping[str, str]) -> RaySettings:
    """Read and check the settings.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    values = read_keys(environ, RAY_KEYS)
    if "min_replicas" in values:
        values.setdefault("max_replicas", values["min_replicas"])
    settings = RaySettings(**values)
    if settings.max_replicas < settings.min_replicas:
        message = (
            f"NIMBUSGUARD_RAY_MAX_REPLICAS: expected at least NIMBUSGUARD_RAY_MIN_REPLICAS "
            f"({settings.min_replicas}), got {settings.max_replicas}"
        )
        raise InvalidSetting(message)
    return settings


def example() -> str:
    """The blocks of `.env.example` with these keys."""
    return "\n\n".join(
        (
            environment.example("Read by predictor", KEYS, PredictorSettings()),
            environment.example("Read by predictor on Ray", RAY_KEYS, RaySettings()),
        )
    )
