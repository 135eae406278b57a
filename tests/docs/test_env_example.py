"""`.env.example` and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nimbusguard.settings import KEYS, Key, Settings, example, from_environ

ROOT = Path(__file__).parents[2]


def values_of(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_the_example_file_is_what_the_code_writes() -> None:
    """Every key, its meaning and its default, word for word."""
    assert (ROOT / ".env.example").read_text() == example()


def test_the_example_file_holds_the_defaults() -> None:
    """Reading the file gives the same settings as reading nothing."""
    assert from_environ(values_of(example())) == from_environ({}) == Settings()


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


READ = [(key, reader) for key in KEYS for reader in key.readers]


@pytest.mark.parametrize(("key", "reader"), READ, ids=[f"{k.name}-{r}" for k, r in READ])
def test_a_key_that_is_listed_as_read_is_read(key: Key, reader: str) -> None:
    """The package named in the file uses the setting."""
    place = ROOT / reader.replace(".", "/")
    sources = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    text = "".join(path.read_text() for path in sources)

    assert re.search(rf"\w\.{key.field}\b", text) or f'"{key.name}"' in text
