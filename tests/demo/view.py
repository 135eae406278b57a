"""The terminal view: what happens now under both deciders, and how it went so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.demo.rounds import NIMBUSGUARD, Moment
from tests.demo.stage import SIMULATED

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 24


class View:
    """A table that is drawn anew every second."""

    def __init__(self, console: Console, *, seconds: float, objective_s: float) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._seconds = seconds
        self._objective_s = objective_s
        self._history: deque[Mapping[str, Moment]] = deque(maxlen=_WIDTH)

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, moments: Mapping[str, Moment]) -> None:
        self._history.append(moments)
        self._live.update(self._table(moments), refresh=True)

    def _table(self, now: Mapping[str, Moment]) -> Table:
        first = next(iter(now.values()))
        table = Table(
            title=f"second {first.since_s:.0f} of {self._seconds:.0f}",
            caption=f"simulated: {SIMULATED}; everything else is real",
        )
        for column in ("", "", "now", "before"):
            table.add_column(column)
        rates = [next(iter(past.values())).rate for past in self._history]
        table.add_row("load", "both", f"{first.rate:.0f} requests/s", bars(rates))
        for decider, moment in now.items():
            past = [moments[decider] for moments in self._history]
            replicas = f"{moment.running} running, {moment.wanted} wanted"
            table.add_row("replicas", decider, replicas, bars([one.running for one in past]))
        for decider, moment in now.items():
            past = [moments[decider] for moments in self._history]
            table.add_row("p95", decider, self._latency(moment), bars([one.p95_s for one in past]))
        for decider, moment in now.items():
            past = [moments[decider] for moments in self._history]
            so_far = bars([one.violations for one in past])
            table.add_row("violations", decider, f"{moment.violations} so far", so_far)
        table.add_row("action", NIMBUSGUARD, now[NIMBUSGUARD].action or "-", "")
        table.add_row("source", NIMBUSGUARD, now[NIMBUSGUARD].source or "-", "")
        return table

    def _latency(self, moment: Moment) -> str:
        colour = "red" if moment.p95_s > self._objective_s else "green"
        objective_ms = 1000 * self._objective_s
        return f"[{colour}]{1000 * moment.p95_s:.0f} ms[/] (objective {objective_ms:.0f})"


def bars(values: Sequence[float]) -> str:
    """Numbers as a line of bars, the highest full."""
    top = max(values, default=0.0) or 1.0
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in values)
