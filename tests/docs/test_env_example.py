"""`.env.example` and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import autoscaler.settings
import predictor.settings
import serving.settings
import transformer.settings
from autoscaler.settings import OperatorSettings, operator_settings
from nimbusguard import settings as shared
from nimbusguard.environment import Key
from nimbusguard.settings import KEYS, Settings, from_environ
from nimbusguard.telemetry import settings as tracing
from nimbusguard.telemetry.settings import TracingSettings, tracing_settings
from predictor.settings import PredictorSettings, RaySettings, predictor_settings, ray_settings
from serving.settings import ServerSettings, server_settings
from transformer.settings import TransformerSettings, transformer_settings

HEAD = "# Every setting with its default. Copy to .env and change what differs."
ROOT = Path(__file__).parents[2]


def values_of(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def example() -> str:
    """The text of the file: the blocks of every part's table."""
    parts = (shared, transformer.settings, predictor.settings, serving.settings)
    blocks = [part.example() for part in (*parts, tracing, autoscaler.settings)]
    return "\n\n".join([HEAD, *blocks]) + "\n"


def test_the_example_file_is_what_the_code_writes() -> None:
    """Every key, its meaning and its default, word for word."""
    assert (ROOT / ".env.example").read_text() == example()


def test_the_example_file_holds_the_defaults() -> None:
    """Reading the file gives the same settings as reading nothing."""
    values = values_of((ROOT / ".env.example").read_text())

    assert from_environ(values) == from_environ({}) == Settings()
    assert operator_settings(values) == OperatorSettings()
    assert server_settings(values) == ServerSettings()
    assert ray_settings(values) == RaySettings()
    assert predictor_settings(values) == PredictorSettings()
    assert transformer_settings(values) == TransformerSettings()
    assert tracing_settings(values) == TracingSettings()


def test_no_key_is_in_the_example_file_twice() -> None:
    """Whoever changes one would wonder which counts."""
    names = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert len(names) == len(set(names)) > 40


def test_the_example_file_holds_the_names_that_users_know() -> None:
    """None of the published names is lost, none is there twice."""
    assert sorted(key.name for key in KEYS) == [
        "DATA_COLLECTION_HOURS",
        "DQN_ACTION_DIM",
        "DQN_STATE_DIM",
        "FALLBACK_TO_LOCAL",
        "KATIB_MAX_TRIAL_COUNT",
        "KATIB_PARALLEL_TRIAL_COUNT",
        "KSERVE_ENDPOINT",
        "LEARNING_RATE_MAX",
        "LEARNING_RATE_MIN",
        "MODEL_VALIDATION_INTERVAL",
        "PROMETHEUS_ENDPOINT",
        "TRAINING_EPOCHS",
    ]


def test_every_key_is_explained_in_a_document() -> None:
    """By its name, in prose or in a table; the file's own line says only what it is."""
    text = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    names = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert [name for name in names if f"`{name}" not in text] == []


def test_every_key_of_the_code_is_in_the_example_file() -> None:
    """All packages; only training reads where the request traces lie."""
    listed = set(values_of((ROOT / ".env.example").read_text()))
    packages = ("nimbusguard", "serving", "predictor", "transformer", "training", "autoscaler")
    named = {
        name
        for package in (*packages, "model_store", "loadtest")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r'"((?:NIMBUSGUARD|AUTOSCALER)_[A-Z_]+[A-Z])"', path.read_text())
    }

    assert named - listed == {"NIMBUSGUARD_TRACES"}


READ = [(key, reader) for key in KEYS for reader in key.readers]


@pytest.mark.parametrize(("key", "reader"), READ, ids=[f"{k.name}-{r}" for k, r in READ])
def test_a_key_that_is_listed_as_read_is_read(key: Key, reader: str) -> None:
    """The package named in the file uses the setting."""
    place = ROOT / reader.replace(".", "/")
    sources = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    text = "".join(path.read_text() for path in sources)

    assert re.search(rf"\w\.{key.field}\b", text) or f'"{key.name}"' in text
