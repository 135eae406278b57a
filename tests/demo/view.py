"""The terminal view: what happens now, and how it went so far."""

from __future__ import annotations

from collections import deque

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.demo.rounds import OBJECTIVE_S, Moment

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 40


class View:
    """A table that is drawn anew every second."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._seconds = seconds
        self._policy = ""
        self._history: deque[Moment] = deque(maxlen=_WIDTH)

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, policy: str, moment: Moment) -> None:
        if policy != self._policy:
            self._policy = policy
            self._history.clear()
        self._history.append(moment)
        self._live.update(self._table(moment), refresh=True)

    def _table(self, now: Moment) -> Table:
        table = Table(title=f"{self._policy}  {now.since_s:.0f} of {self._seconds:.0f} s")
        for column in ("", "now", "before"):
            table.add_column(column)
        past = self._history
        table.add_row("load", f"{now.rate:.0f} requests/s", bars([one.rate for one in past]))
        table.add_row(
            "replicas",
            f"{now.running} running, {now.wanted} wanted",
            bars([float(one.running) for one in past]),
        )
        colour = "red" if now.p95_s > OBJECTIVE_S else "green"
        table.add_row(
            "p95",
            f"[{colour}]{1000 * now.p95_s:.0f} ms[/] (objective {1000 * OBJECTIVE_S:.0f})",
            bars([one.p95_s for one in past]),
        )
        table.add_row("action", now.action or "-", "")
        table.add_row("source", now.source or "-", "")
        return table


def bars(values: list[float]) -> str:
    """Numbers as a line of bars, the highest full."""
    top = max(values, default=0.0) or 1.0
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in values)
