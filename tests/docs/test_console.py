"""`docs/console.md` names every document, parameter and field, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nimbusguard.console.api import NAMES, SORTS
from nimbusguard.console.comparison import Comparison
from nimbusguard.console.schema import SCHEMAS

PAGE = (Path(__file__).parents[2] / "docs" / "console.md").read_text()


def fields_of(schema: Any) -> set[str]:
    """Every key of a schema's objects, at any depth."""
    if isinstance(schema, list):
        return set().union(*(fields_of(part) for part in schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {})) if schema.get("type") == "object" else set()
    return own | set().union(*(fields_of(part) for part in schema.values()))


def test_every_document_is_described() -> None:
    """A row each, and no row more."""
    section = PAGE.partition("## As JSON")[2]

    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == NAMES


def test_every_field_is_described() -> None:
    """By its name; features are those of the contract."""
    from nimbusguard.contract.features import NAMES as FEATURES

    named = set(re.findall(r"`(\w+)`", PAGE.partition("## As JSON")[2]))

    assert set(SCHEMAS) <= named
    assert fields_of(list(SCHEMAS.values())) - set(FEATURES) - named == set()
    assert set(SORTS) | set(Comparison.__slots__) <= named


def test_the_picture_is_there_and_small() -> None:
    """A PNG of under 300 KB."""
    picture = Path(__file__).parents[2] / "docs" / "images" / "console.png"

    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size < 300_000
