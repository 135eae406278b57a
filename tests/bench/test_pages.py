"""Figures in prose are those of the committed records."""

import pytest

from bench.__main__ import RESULTS
from bench.pages import NOTHING, PAGES, fill, make_blocks, stale
from bench.records import Document
from bench.results import load


def test_the_pages_show_what_the_committed_records_give() -> None:
    """Without records every block says so; `python -m bench report --date …` writes them anew."""
    blocks = make_blocks(*load(RESULTS / "results.json"))

    assert stale(PAGES, blocks) == []


def test_every_page_has_a_block() -> None:
    """Otherwise the test above would hold of nothing."""
    for page in PAGES:
        assert "<!-- bench " in page.read_text()


def test_a_block_is_replaced_and_the_text_around_it_stays() -> None:
    """Each by its name, as often as it stands there."""
    text = (
        "a\n<!-- bench one -->\nold\nold\n<!-- /bench -->\nb\n<!-- bench two -->\n<!-- /bench -->\n"
    )

    filled = fill(text, {"one": "1", "two": "2"})

    assert filled == (
        "a\n<!-- bench one -->\n1\n<!-- /bench -->\nb\n<!-- bench two -->\n2\n<!-- /bench -->\n"
    )
    assert fill(filled, {"one": "1", "two": "2"}) == filled


def test_a_block_that_nobody_writes_is_an_error() -> None:
    """A misspelt name must not keep an old figure."""
    with pytest.raises(KeyError, match="three"):
        fill("<!-- bench three -->\n7\n<!-- /bench -->", {"one": "1"})


def test_nothing_measured_is_said_in_every_block() -> None:
    """No table without figures."""
    assert set(make_blocks(Document(), {}).values()) == {NOTHING}
