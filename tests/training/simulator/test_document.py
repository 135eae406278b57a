"""`docs/simulator.md` says what the code does."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from training.simulator.settings import PARAMETERS, SimulatorSettings
from training.traces import PARTS

PAGE = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text(encoding="utf-8")


def test_the_page_lists_every_parameter_with_its_range_and_nominal_value() -> None:
    """One row each, in the order of the settings."""
    settings = SimulatorSettings()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) to ([\d.]+)( \(log\))? \| ([\d.]+) \|", PAGE, re.M)
    stated = [
        (name, float(low), float(high), float(nominal), bool(log))
        for name, low, high, log, nominal in rows
    ]

    assert stated == [(name, *getattr(settings, name)) for name in PARAMETERS]


def test_the_example_of_the_page_runs() -> None:
    """It prints violations and pod-hours."""
    example = re.search(r"```python\n(.*?)```", PAGE, re.S)
    assert example is not None
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        exec(example.group(1), {})  # noqa: S102 - the page's own example

    assert re.fullmatch(r"\d+\.\d\d% violations, \d+\.\d pod-hours\n", printed.getvalue())


def test_the_page_names_the_split_of_every_trace() -> None:
    """Each use of each trace has its place in the table."""
    table = PAGE[PAGE.index("### Training and evaluation data") :]

    for words in ("June 13 to 20", "July 22 to 28", "April 9 to 22", "stress only"):
        assert words in table
    assert len({part.group for part in PARTS}) == 6
