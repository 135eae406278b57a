"""Real traces: read as they are, split by date, never mixed."""

from __future__ import annotations

from datetime import datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from nimbusguard.contract.errors import InvalidRequest, NotFound
from training.simulator.settings import TraceSettings
from training.simulator.workload import PEAK_PERCENTILE
from training.traces import PARTS, Part, Use, read_series, spans, windows

FOLDER = TraceSettings.from_environ().folder
needs_traces = pytest.mark.skipif(not FOLDER.is_dir(), reason="the traces are not at hand")


def bounds(part: Part) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(part.begin), datetime.fromisoformat(part.end)


def test_no_two_parts_of_a_trace_share_a_moment() -> None:
    """Training, validation and stress data never overlap."""
    for one, two in combinations(PARTS, 2):
        if one.file == two.file:
            (begin, end), (other_begin, other_end) = bounds(one), bounds(two)
            assert end <= other_begin or other_end <= begin


def test_every_window_lies_within_its_part() -> None:
    """Days do not stick out over the split."""
    for part in PARTS:
        begin, end = bounds(part)
        for first, last in spans(part):
            assert begin <= first < last <= end


def test_the_split_is_the_one_that_the_traces_were_given_with() -> None:
    """World Cup to June 12 and NASA to July 21 train; the load balancer is never learnt from."""
    use = {(part.group, part.use): (part.begin, part.end) for part in PARTS}

    assert use["wc98", Use.TRAIN][1] == use["wc98", Use.VALIDATE][0] == "1998-06-13"
    assert use["nasa", Use.TRAIN][1] == use["nasa", Use.VALIDATE][0] == "1995-07-22"
    assert use["twitter", Use.TRAIN][1] == use["twitter", Use.VALIDATE][0]
    assert {part.use for part in PARTS if part.group == "elb"} == {Use.STRESS}
    assert {part.use for part in PARTS if part.group == "azure_conv"} == {Use.VALIDATE}


@needs_traces
def test_training_and_evaluation_never_share_a_minute_of_data() -> None:
    """The very bins that windows are cut from, by position in their file, are disjoint."""
    taken: dict[str, dict[Use, set[int]]] = {}
    for part in PARTS:
        series = read_series(FOLDER / part.file, part.step_s)
        positions = taken.setdefault(part.file, {}).setdefault(part.use, set())
        numbered = np.arange(len(series.counts), dtype=np.float64)
        series.counts = numbered
        for begin, end in spans(part):
            positions.update(series.between(begin, end).astype(int).tolist())

    for by_use in taken.values():
        for one, two in combinations(by_use.values(), 2):
            assert not one & two


@needs_traces
def test_the_validation_windows_are_the_announced_ones() -> None:
    """Eight days of the World Cup, seven of NASA, fourteen of Twitter, an hour of Azure."""
    found = [window.name for window in windows(Use.VALIDATE, FOLDER)]
    groups = [name.partition("-")[0] for name in found]

    assert {group: groups.count(group) for group in groups} == {
        "wc98": 8,
        "nasa": 7,
        "twitter": 14,
        "azure_conv": 1,
    }
    assert found[0] == "wc98-1998-06-13"
    assert len(set(found)) == len(found)


@needs_traces
@pytest.mark.parametrize("use", Use)
def test_every_window_is_scaled_to_its_peak(use: Use) -> None:
    """Load 1 is the 99.9th percentile; the factor to requests/s is recorded."""
    for window in windows(use, FOLDER):
        assert np.percentile(window.load, PEAK_PERCENTILE) == pytest.approx(1.0)
        assert window.peak_rate > 0.0
        assert window.load.min() >= 0.0


@needs_traces
def test_a_day_of_the_world_cup_has_the_recorded_requests() -> None:
    """June 15, 1998: the sum of the file's 1,440 minutes."""
    window = next(w for w in windows(Use.VALIDATE, FOLDER) if w.name == "wc98-1998-06-15")
    with (FOLDER / "wc98_requests_per_min.csv").open() as lines:
        total = sum(int(line.split(",")[1]) for line in lines if line.startswith("1998-06-15"))

    assert window.load.sum() * window.peak_rate * 60.0 == pytest.approx(total)


def test_a_missing_bin_is_interpolated(tmp_path: Path) -> None:
    """The load balancer's trace has gaps of one bin."""
    path = tmp_path / "trace.csv"
    path.write_text(
        "timestamp,value\n2020-01-01 00:00:00,2\n2020-01-01 00:05:00,4\n2020-01-01 00:15:00,8\n"
    )

    series = read_series(path, 300.0)

    assert series.counts.tolist() == [2.0, 4.0, 6.0, 8.0]


def test_rows_of_single_requests_are_counted_by_the_minute(tmp_path: Path) -> None:
    """The last, broken minute is left out."""
    path = tmp_path / "events.csv"
    seconds = [0.0, 10.5, 59.999, 60.1, 125.0]
    rows = [f"2020-01-01 00:{int(s // 60):02d}:{s % 60:010.7f},1" for s in seconds]
    path.write_text("TIMESTAMP,TOKENS\n" + "\n".join(rows) + "\n")

    series = read_series(path, 0.0)

    assert series.step_s == 60.0
    assert series.counts.tolist() == [3.0, 1.0]


def test_a_missing_trace_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """And how to name the folder."""
    with pytest.raises(NotFound, match="NIMBUSGUARD_TRACES"):
        read_series(tmp_path / "none.csv", 60.0)


def test_a_row_that_is_no_count_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    path = tmp_path / "bad.csv"
    path.write_text("timestamp,value\n2020-01-01 00:00:00,many\n")

    with pytest.raises(InvalidRequest, match=r"bad\.csv"):
        read_series(path, 60.0)
