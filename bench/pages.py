"""The figures that other pages quote: each block between two marks is written from the records.

A page holds `<!-- bench NAME -->` and `<!-- /bench -->`; what stands between them is replaced by
`python -m bench report`, and a test holds the pages to the committed records. So no figure is
typed by hand, and none outlives the run it came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.machine import Provenance
from bench.payloads import Form
from bench.plan import Workload
from bench.processes import ROOT
from bench.records import Cell, Document
from bench.report import (
    cells_table,
    markdown,
    number,
    overload_table,
    poison_table,
    processes_table,
    profile_table,
    ray_parts,
    targets_table,
)
from bench.systems import OURS, Side
from bench.targets import judge, p50, p99, rate

PAGES: Final = (ROOT / "README.md", ROOT / "docs" / "performance.md")
NOTHING: Final = "Not measured yet; `make bench` measures it and writes it here."
_BLOCK: Final = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
_HEADLINE: Final = ("Pair, ", "Predictor alone, ", "Ray: ")
"""How the targets begin that the README shows."""


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """A page with each of its blocks replaced.

    Raises:
        KeyError: The page names a block that does not exist.
    """
    return _BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]}\n{found[3]}", text)


def write_pages(document: Document, origins: Mapping[str, Provenance]) -> None:
    """Bring every page up to date with the records."""
    blocks = make_blocks(document, origins)
    for page in PAGES:
        page.write_text(fill(page.read_text(), blocks))


def make_blocks(document: Document, origins: Mapping[str, Provenance]) -> dict[str, str]:
    """Every block by its name; one whose part was not measured says so."""
    made: dict[str, Callable[[], str | None]] = {
        "headline": lambda: headline(document, origins),
        "profile": lambda: profile_table(document.profile) if document.profile else None,
        "growth": lambda: _growth(document),
        "hops": lambda: _hops(document),
        "overload": lambda: overload_table(document.overload) if document.overload else None,
        "poison": lambda: poison_table(document.poison) if document.poison else None,
        "ray": lambda: "\n\n".join(ray_parts(document.ray)) if document.ray else None,
        "memory": lambda: processes_table(document.table) if document.table else None,
    }
    return {name: make() or NOTHING for name, make in made.items()}


def headline(document: Document, origins: Mapping[str, Provenance]) -> str | None:
    """The targets of speed, and where they were measured."""
    origin = origins.get("table")
    if origin is None:
        return None
    verdicts = [each for each in judge(document) if each.target.text.startswith(_HEADLINE)]
    where = f"{origin.cores} cores, {origin.cpu}, {origin.date}, commit {origin.commit}"
    return f"{targets_table(verdicts)}\n\n{where}."


def _growth(document: Document) -> str | None:
    """Ours under every workload, with the cost of one row."""
    table = document.table
    if table is None:
        return None
    header = ["", "requests/s", "rows/s", "p50 ms", "p99 ms", "CPU µs/request", "CPU µs/row"]
    cells = [cell for cell in table.cells if cell.system is OURS]
    return markdown(header, [_growth_row(cell) for cell in cells])


def _growth_row(cell: Cell) -> list[str]:
    cost = cell.median(lambda each: each.cpu_us)
    rows = cell.workload.rows
    speed = cell.median(rate)
    figures = (speed, speed * rows, cell.median(p50), cell.median(p99), cost, cost / rows)
    return [cell.workload.title, *(number(each) for each in figures)]


def _hops(document: Document) -> str | None:
    """Every pair under single named rows: what a hop costs, ours and theirs."""
    table = document.table
    if table is None:
        return None
    wanted = [
        Workload(side=Side.PAIR, form=Form.NAMED, rows=1, connections=count) for count in (1, 64)
    ]
    return cells_table(table, [cell for cell in table.cells if cell.workload in wanted])


def stale(pages: tuple[Path, ...], blocks: Mapping[str, str]) -> list[Path]:
    """The pages whose blocks are not those of the records."""
    return [page for page in pages if fill(page.read_text(), blocks) != page.read_text()]
