"""One reader of settings for all parts: values, refusals by name, blocks of the example."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.environment import (
    InvalidSetting,
    Key,
    Read,
    choice,
    example,
    number,
    positive,
    read_keys,
    refuse_unknown,
    truth,
    web_address,
    whole,
)

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Own:
    """Settings of some part."""

    limit: int = 5
    """`OWN_LIMIT`. How many,
    at most."""
    words: tuple[str, ...] = ("a", "b")
    """Some words."""
    note: str | None = None
    """A note."""


KEYS = (
    Key("OWN_LIMIT", whole(1, 9), prefix="OWN_"),
    Key("OWN_WORDS", str, prefix="OWN_"),
    Key("NOTE", str, (), "What to note."),
)


def test_a_block_of_the_example_holds_meaning_and_default() -> None:
    """The meaning is the key's own, else what stands below the field."""
    assert example("Read by own", KEYS, Own()) == (
        "# --- Read by own\n\n# How many, at most.\nOWN_LIMIT=5\n\n# Some words.\nOWN_WORDS=a,b"
        "\n\n# What to note.\nNOTE="
    )


def test_what_is_blank_is_unset() -> None:
    """As an empty key of a ConfigMap."""
    assert read_keys({"OWN_LIMIT": " ", "NOTE": " x "}, KEYS) == {"note": "x"}


@pytest.mark.parametrize("text", ["0", "10", "1.0", "one", "1e0"])
def test_a_value_that_breaks_its_rule_is_named(text: str) -> None:
    """Key, rule and value."""
    with pytest.raises(InvalidSetting) as caught:
        read_keys({"OWN_LIMIT": text}, KEYS)

    expected = f"OWN_LIMIT: expected a whole number from 1 to 9, got {text!r}"
    assert str(caught.value) == expected


def test_an_unknown_key_of_ours_is_refused_unless_it_is_not_ours() -> None:
    """Keys without the prefix are other programs'."""
    environ = {"OWN_LIMITS": "1", "PATH": "/bin"}

    refuse_unknown(environ, "OWN_", ["OWN_LIMITS"])
    refuse_unknown(environ, "OWN_", [], ours=lambda key: key != "OWN_LIMITS")
    with pytest.raises(InvalidSetting, match="OWN_LIMITS: no such setting; expected one of OWN_X"):
        refuse_unknown(environ, "OWN_", ["OWN_X"])


READERS: list[Read] = [
    whole(),
    whole(0, 7),
    number(-1, 1),
    positive,
    truth,
    choice("a"),
    web_address,
]


@given(st.sampled_from(READERS), st.text(max_size=9))
def test_a_reader_gives_a_value_or_raises_value_error(read: Read, text: str) -> None:
    """Whatever is written in an environment; a number is never NaN or infinite."""
    with suppress(ValueError):
        value = read(text)
        assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    "part", ["nimbusguard", "autoscaler", "serving", "predictor", "transformer"]
)
def test_every_settings_module_is_a_table_for_this_reader(part: str) -> None:
    """None of them looks into an environment itself."""
    text = (ROOT / part / "settings.py").read_text()

    assert "from nimbusguard.environment import" in text
    assert "environ.get(" not in text
    assert "environ[" not in text
