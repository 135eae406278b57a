"""The page's files: all there, of known types, and nothing that a strict policy would refuse."""

from __future__ import annotations

import re

import pytest

from nimbusguard.console.assets import HEADERS, assets

SCRIPTS = [name for name in assets() if name.endswith(".js")]


def test_the_page_names_files_that_are_there() -> None:
    """Its script, its style and its icon."""
    page = assets()["index.html"].body.decode()

    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert name in assets() or name.startswith("api/")
    assert assets()[""] == assets()["index.html"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_files_that_are_there(name: str) -> None:
    """By relative paths."""
    for imported in re.findall(r'from "([^"]+)"', assets()[name].body.decode()):
        assert imported.removeprefix("./") in assets()


def test_nothing_is_inline() -> None:
    """No script, style or handler in the page, which the policy would refuse."""
    page = assets()["index.html"].body.decode()

    assert "<style" not in page
    assert not re.search(r"<script(?![^>]* src=)", page)
    assert not re.search(r'\s(?:style|on\w+)="', page)
    assert "unsafe" not in HEADERS["content-security-policy"]
