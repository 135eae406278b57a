"""The page's files: all there, of known types, and nothing that a strict policy would refuse."""

from __future__ import annotations

import re

import pytest

from autoscaler.rails import Rail
from nimbusguard.console.assets import HEADERS, assets
from nimbusguard.policy.guard import Rule

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


def test_every_rule_is_explained_to_who_does_not_know_its_name() -> None:
    """Those of the guard and of the operator, and no other."""
    named = re.findall(r'^  ([A-Z_]+): "\w', assets()["rules.js"].body.decode(), re.MULTILINE)

    assert set(named) == {rail.value for rail in Rail} | {rule.name for rule in Rule if rule}
