"""The predictor's own settings: where its model lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
