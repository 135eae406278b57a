"""The real request traces, and which of their days may be learnt from.

The split is by date and lies here alone, so that one test can prove that training and evaluation
never share a minute. Sources and licences: the README beside the traces.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest, NotFound
from training.simulator.workload import Workload, scaled_to_peak


class Use(Enum):
    """What a part of a trace may be used for."""

    TRAIN = "train"
    VALIDATE = "validate"
    STRESS = "stress"
    """Shown in reports, never trained on and never tuned on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A span of one trace and its use; times are the trace's own."""

    group: str
    file: str
    step_s: float
    """Width of a bin; 0 for a file with one row a request, which is counted by the minute."""
    use: Use
    begin: str
    """First moment, `YYYY-MM-DD[ HH:MM]`."""
    end: str
    """First moment after it."""
    daily: bool = True
    """One window a day; else one window."""


_WC98: Final = "wc98_requests_per_min.csv"
_NASA: Final = "nasa_july_requests_per_min.csv"
_TWITTER: Final = "nab_twitter_amzn_5min.csv"


def _part(
    group: str, file: str, step_s: float, use: Use, span: tuple[str, str], *, daily: bool = True
) -> Part:
    return Part(
        group=group, file=file, step_s=step_s, use=use, begin=span[0], end=span[1], daily=daily
    )


PARTS: Final[tuple[Part, ...]] = (
    _part("wc98", _WC98, 60.0, Use.TRAIN, ("1998-05-01", "1998-06-13")),
    _part("wc98", _WC98, 60.0, Use.VALIDATE, ("1998-06-13", "1998-06-21")),
    _part("nasa", _NASA, 60.0, Use.TRAIN, ("1995-07-01", "1995-07-22")),
    _part("nasa", _NASA, 60.0, Use.VALIDATE, ("1995-07-22", "1995-07-29")),
    _part("twitter", _TWITTER, 300.0, Use.TRAIN, ("2015-02-27", "2015-04-09")),
    _part("twitter", _TWITTER, 300.0, Use.VALIDATE, ("2015-04-09", "2015-04-23")),
    _part("taxi", "nab_nyc_taxi_30min.csv", 1800.0, Use.TRAIN, ("2014-07-01", "2015-02-01")),
    _part(
        "azure_conv",
        "azure_llm_2023_conv.csv",
        0.0,
        Use.VALIDATE,
        ("2023-11-16", "2023-11-17"),
        daily=False,
    ),
    _part(
        "elb",
        "nab_aws_elb_request_count_5min.csv",
        300.0,
        Use.STRESS,
        ("2014-04-10", "2014-04-24"),
    ),
)
"""World Cup to June 12, NASA to July 21, Twitter to April 8 are for training; what follows them for
validation. Azure is validation alone; the taxis, a clean season, are training alone."""

_EVENT_BIN_S: Final = 60.0
_SHORTEST_S: Final = 1800.0


class Series:
    """Counts of one file in even bins; a missing bin is interpolated."""

    def __init__(self, begin: datetime, step_s: float, counts: NDArray[np.float64]) -> None:
        self.begin = begin
        self.step_s = step_s
        self.counts = counts

    def between(self, begin: datetime, end: datetime) -> NDArray[np.float64]:
        """Counts of the bins that lie wholly in [begin, end)."""
        first = max(int(np.ceil((begin - self.begin).total_seconds() / self.step_s)), 0)
        last = int((end - self.begin).total_seconds() // self.step_s)
        return self.counts[first : max(last, first)]


def read_series(path: Path, step_s: float) -> Series:
    """Read a trace.

    Args:
        path: A CSV file with a header and the time in its first column.
        step_s: Width of its bins; 0 if each row is one request.

    Raises:
        NotFound: The file is not there.
        InvalidRequest: A row is no time and number.
    """
    if not path.is_file():
        message = (
            f"trace {path.name}: not found in {path.parent}; "
            "name the folder of the traces in NIMBUSGUARD_TRACES"
        )
        raise NotFound(message)
    with path.open(newline="") as lines:
        rows = list(csv.reader(lines))[1:]
    try:
        times = [_moment(row[0]) for row in rows]
        counts = np.array([1.0 if step_s == 0 else float(row[1]) for row in rows])
    except (ValueError, IndexError) as error:
        message = f"trace {path.name}: expected rows of time and count, got {error}"
        raise InvalidRequest(message) from error
    since = np.array([(time - times[0]).total_seconds() for time in times])
    if step_s == 0:
        whole = int(since[-1] // _EVENT_BIN_S)
        binned = np.bincount((since // _EVENT_BIN_S).astype(np.int64))[:whole]
        return Series(times[0], _EVENT_BIN_S, binned.astype(np.float64))
    even = np.arange(round(since[-1] / step_s) + 1) * step_s
    return Series(times[0], step_s, np.interp(even, since, counts))


def _moment(text: str) -> datetime:
    """A time without zone; more than six digits of a second are cut."""
    whole, _, fraction = text.replace("T", " ").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=None)
    return moment + timedelta(seconds=float(f"0.{fraction or 0}"))


def windows(use: Use, folder: Path) -> list[Workload]:
    """The windows of one use, each scaled so that its 99.9th percentile is load 1.

    A day of which less than half an hour is recorded, or in which nothing happened, is left out.
    """
    found: list[Workload] = []
    for part in PARTS:
        if part.use is use:
            found.extend(_windows_of(part, read_series(folder / part.file, part.step_s)))
    return found


def spans(part: Part) -> list[tuple[datetime, datetime]]:
    """Begin and end of each window of a part."""
    begin, end = datetime.fromisoformat(part.begin), datetime.fromisoformat(part.end)
    if not part.daily:
        return [(begin, end)]
    day = timedelta(days=1)
    return [(begin + day * index, begin + day * (index + 1)) for index in range((end - begin).days)]


def _windows_of(part: Part, series: Series) -> list[Workload]:
    found = []
    for begin, end in spans(part):
        counts = series.between(begin, end)
        if len(counts) * series.step_s >= _SHORTEST_S and counts.any():
            name = f"{part.group}-{begin.date()}" if part.daily else part.group
            found.append(scaled_to_peak(name, part.group, series.step_s, counts))
    return found
