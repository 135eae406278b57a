"""The table of failures in docs/operate.md names the drills that there are."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/operate.md").read_text()
TABLE = PAGE[PAGE.index("## What a failure does") : PAGE.index("## Status, events, metrics")]


def test_every_drill_is_in_the_table_and_no_other() -> None:
    """By the name of its test."""
    written = {
        name
        for path in TESTS.glob("drills/test_*.py")
        if path != Path(__file__)
        for name in re.findall(r"^async def (test_\w+)", path.read_text(), re.MULTILINE)
    }

    assert set(re.findall(r"`(test_\w+)`", TABLE)) == written


def test_every_failure_has_a_drill_that_exists() -> None:
    """The last cell of each row names a drill, or a file of tests, or says that it is the same."""
    rows = [line.split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][2:]

    assert len(rows) > 15
    for row in rows:
        drill = row[-1].strip(" |")
        files = re.findall(r"`(\w+/test_\w+\.py)`", drill)
        assert all((TESTS / file).is_file() for file in files), drill
        assert files or drill.startswith(("`test_", "the same")), row
