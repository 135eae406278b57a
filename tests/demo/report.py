"""One HTML page: both runs beside one another, in figures and over time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from tests.demo.rounds import INTERVAL_S, OBJECTIVE_S, WINDOW_S, Round
from tests.demo.traffic import Traffic

_COLOURS = ("#0b6e4f", "#d1495b")
_STYLE = """body{font:15px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse}tr{border-top:1px solid #ddd}td,th{padding:.25em .8em}
td,th{text-align:right}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"""

_Figures = list[tuple[str, list[str]]]


def figures(rounds: Sequence[Round]) -> _Figures:
    """Rows of the table: what, and its value for each run."""
    return [
        ("requests", [str(len(one.requests)) for one in rounds]),
        ("violations", [f"{100 * one.violation_ratio:.2f} %" for one in rounds]),
        ("of them failed", [str(sum(not r.succeeded for r in one.requests)) for one in rounds]),
        ("p50", [f"{1000 * one.quantile_s(0.5):.0f} ms" for one in rounds]),
        ("p95", [f"{1000 * one.quantile_s(0.95):.0f} ms" for one in rounds]),
        ("p99", [f"{1000 * one.quantile_s(0.99):.0f} ms" for one in rounds]),
        ("pod-seconds", [f"{one.pod_seconds:.0f}" for one in rounds]),
        ("changes of replicas", [str(one.changes) for one in rounds]),
        ("decisions by", [", ".join(_sources(one)) for one in rounds]),
    ]


def write(path: Path, traffic: Traffic, rounds: Sequence[Round]) -> None:
    """Write the page."""
    head = "".join(f"<th>{escape(one.policy)}</th>" for one in rounds)
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(v)}</td>' for v in values)}</tr>"
        for name, values in figures(rounds)
    )
    setting = (
        f"{traffic.source.name}, {traffic.source.duration_s / 3600:.1f} hours in "
        f"{traffic.seconds:.0f} s, at most {traffic.peak_rate:.0f} requests/s. A violation is a "
        f"request that failed or took more than {1000 * OBJECTIVE_S:.0f} ms. Both decide every "
        f"{INTERVAL_S:.0f} s and keep replicas for {WINDOW_S:.0f} s. Real pods, haproxy, "
        "Prometheus, transformer, predictor and operator; the Kubernetes API is a stand-in. One "
        "run each: the figures of a single run tell that it works, not which is better."
    )
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>NimbusGuard demo</title>"
        f"<style>{_STYLE}</style><h1>The loop, live</h1><p>{escape(setting)}</p>"
        f"<table><tr><th></th>{head}</tr>{body}</table>{_chart(rounds)}"
    )


def _sources(one: Round) -> list[str]:
    return sorted({moment.source for moment in one.moments if moment.source})


def _chart(rounds: Sequence[Round]) -> str:
    figure = Figure(figsize=(10.0, 6.0), layout="constrained")
    load, replicas, latency = figure.subplots(3, 1, sharex=True)
    for colour, one in zip(_COLOURS, rounds, strict=False):
        times = [moment.since_s for moment in one.moments]
        replicas.step(
            times, [m.running for m in one.moments], where="post", color=colour, label=one.policy
        )
        latency.plot(times, [1000 * m.p95_s for m in one.moments], color=colour, linewidth=0.9)
    times = [moment.since_s for moment in rounds[0].moments]
    load.fill_between(times, [m.rate for m in rounds[0].moments], color="#bbbbbb")
    latency.axhline(1000 * OBJECTIVE_S, color="black", linewidth=0.8, linestyle="--")
    load.set_ylabel("requests/s")
    replicas.set_ylabel("pods running")
    latency.set_ylabel("p95 [ms]")
    latency.set_xlabel("seconds")
    replicas.legend(frameon=False, ncols=2)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]
