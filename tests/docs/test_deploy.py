"""`docs/deploy.md` names what there is, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtest.scenarios import SCENARIOS
from nimbusguard.policy.canary import Limits

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()


def first_cells(heading: str) -> list[str]:
    """The names in the first column of the table that follows a header row."""
    table = PAGE[PAGE.index(heading) :].split("\n\n", 1)[0]
    rows = table.splitlines()[2:]
    return [name for row in rows for name in re.findall(r"[\w-]+", row.split("|")[1])]


@pytest.mark.parametrize(
    ("heading", "folder"),
    [("| overlay | mode |", "overlays"), ("| component | adds |", "components")],
)
def test_every_overlay_and_component_is_in_its_table(heading: str, folder: str) -> None:
    """None is missing, none is made up."""
    there = {path.name for path in (ROOT / "manifests" / folder).iterdir()}

    assert set(first_cells(heading)) == there


def test_every_scenario_is_in_its_table() -> None:
    """By the names of the command."""
    assert first_cells("| scenario | users |") == list(SCENARIOS)


def test_every_make_target_of_the_page_exists() -> None:
    """A command that a reader copies must run."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"`?make ([a-z-]+)", PAGE)) <= targets


def test_the_limits_of_the_judge_are_those_of_the_code() -> None:
    """Figures in prose go stale first."""
    limits = Limits()

    assert f"at least {limits.error_tolerance:.1%}".replace("%", " points") in PAGE
    assert f"more than {limits.slow_ratio:g} times stable's" in PAGE
    assert f"more than {limits.max_mix_distance:.0%}".replace("%", " %") in PAGE
    assert f"{limits.min_requests} requests" in PAGE
    assert limits.error_margin == 0.02
    assert limits.rollback_odds == 1 / 2000
