"""One HTML page that needs nothing else: both deciders beside one another, and what a run tells."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from tests.demo.deciders import Terms
from tests.demo.doubt import Difference, difference
from tests.demo.rounds import HPA, NIMBUSGUARD, Round, changes, direction_changes
from tests.demo.stage import SIMULATED
from tests.demo.traffic import Traffic

_LINES = (("#0b6e4f", "-"), ("#d1495b", "--"))
"""Colour and kind; where both are equal, both are seen."""
_STYLE = """body{font:15px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse}tr{border-top:1px solid #ddd}td,th{padding:.25em .8em}
td,th{text-align:right}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"""

_Figures = list[tuple[str, list[str]]]


def figures(rounds: Sequence[Round]) -> _Figures:
    """Rows of the table: what, and its value for each decider."""
    return [
        ("requests", [str(one.sent) for one in rounds]),
        ("violations", [f"{one.violations} ({one.violation_ratio:.2%})" for one in rounds]),
        ("of them failed", [str(sum(not r.succeeded for r in one.requests)) for one in rounds]),
        ("of them not even sent", [str(one.not_sent) for one in rounds]),
        ("p50", [f"{1000 * one.quantile_s(0.5):.0f} ms" for one in rounds]),
        ("p95", [f"{1000 * one.quantile_s(0.95):.0f} ms" for one in rounds]),
        ("p99", [f"{1000 * one.quantile_s(0.99):.0f} ms" for one in rounds]),
        ("pod-seconds", [f"{one.pod_seconds:.0f}" for one in rounds]),
        ("changes of replicas", [str(changes(one.wanted)) for one in rounds]),
        ("changes of direction", [str(direction_changes(one.wanted)) for one in rounds]),
        ("decisions by (version)", [", ".join(_sources(one)) for one in rounds]),
    ]


def summary(rounds: Mapping[str, Round], *, seconds: float) -> list[str]:
    """The run in a few sentences: what each cost and missed, and what of it is chance."""
    ours, theirs = rounds[NIMBUSGUARD], rounds[HPA]
    return [
        f"NimbusGuard: {_told(ours)}.",
        f"HPA: {_told(theirs)}.",
        _verdict(difference(ours, theirs, seconds=seconds)),
        f"NimbusGuard took {_more(ours.pod_seconds, theirs.pod_seconds)} pod-time.",
        _machine(ours, theirs),
    ]


def _told(one: Round) -> str:
    turns = direction_changes(one.wanted)
    return (
        f"{one.violations} of {one.sent} requests violated the objective "
        f"({one.violation_ratio:.2%}), {one.pod_seconds:.0f} pod-seconds, "
        f"{turns} change{'' if turns == 1 else 's'} of direction"
    )


def _verdict(found: Difference) -> str:
    count = abs(found.more)
    kind = "violation" if count == 1 else "violations"
    more = f"{count} {'more' if found.more > 0 else 'fewer'} {kind} than the HPA"
    if found.more == 0:
        more = "as many violations as the HPA"
    if found.chance is None:
        return f"NimbusGuard had {more}; a run under five minutes cannot tell that from chance."
    if found.is_told:
        return f"NimbusGuard had {more}, more than chance alone may do ({found.chance:.0f})."
    return f"NimbusGuard had {more}, which chance alone may do (up to {found.chance:.0f})."


def _more(ours: float, theirs: float) -> str:
    ratio = ours / max(theirs, 1.0) - 1.0
    return f"{abs(ratio):.0%} {'more' if ratio >= 0.0 else 'less'}"


def _machine(ours: Round, theirs: Round) -> str:
    loads = [moment.machine_load for moment in ours.moments] or [0.0]
    late_ms = 1000 * max(ours.late_s, theirs.late_s)
    return (
        f"Meanwhile this machine of {os.cpu_count()} cores had a load average of {min(loads):.1f} "
        f"to {max(loads):.1f}, and one request in a hundred left {late_ms:.0f} ms late or more; a "
        "pod that waits for a core is slow whoever decides."
    )


def keep(path: Path, traffic: Traffic, terms: Terms, rounds: Mapping[str, Round]) -> None:
    """Write what the page was made of, request by request and second by second, as JSON."""
    document = {
        "traffic": traffic.name,
        "peak_rate": traffic.peak_rate,
        "seconds": traffic.seconds,
        "interval_s": terms.interval_s,
        "objective_s": terms.objective_s,
        "rounds": {
            name: {
                "not_sent": one.not_sent,
                "moments": [moment._asdict() for moment in one.moments],
                "requests": [request._asdict() for request in one.requests],
            }
            for name, one in rounds.items()
        },
    }
    path.write_text(json.dumps(document))


def write(path: Path, traffic: Traffic, terms: Terms, rounds: Mapping[str, Round]) -> None:
    """Write the page."""
    runs = list(rounds.values())
    head = "".join(f"<th>{escape(one.decider)}</th>" for one in runs)
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(v)}</td>' for v in values)}</tr>"
        for name, values in figures(runs)
    )
    told = "".join(f"<li>{escape(one)}</li>" for one in summary(rounds, seconds=traffic.seconds))
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>NimbusGuard demo</title>"
        f"<style>{_STYLE}</style><h1>The loop, live</h1><p>{escape(_setting(traffic, terms))}</p>"
        f"<ul>{told}</ul><table><tr><th></th>{head}</tr>{body}</table>{_chart(runs)}"
    )


def _setting(traffic: Traffic, terms: Terms) -> str:
    return (
        f"{traffic.name}, at most {traffic.peak_rate:.0f} requests/s. Every request was sent to "
        "two workloads at the same moment, one scaled by NimbusGuard's operator and one by the "
        "HPA's algorithm on CPU at 70 %. A violation is a request that failed or took more than "
        f"{1000 * terms.objective_s:.0f} ms. Both decide every {terms.interval_s:g} s within "
        f"{terms.least} to {terms.most} replicas and keep replicas for {terms.window_s:g} s. Real: "
        f"pods, haproxy, Prometheus, transformer, predictor, operator. Simulated: {SIMULATED}. "
        "A single run tells that it works; what it tells of the difference stands below."
    )


def _sources(one: Round) -> list[str]:
    return sorted(
        {
            f"{moment.source} ({moment.version})" if moment.version else moment.source
            for moment in one.moments
            if moment.source
        }
    )


def _chart(rounds: Sequence[Round]) -> str:
    figure = Figure(figsize=(10.0, 8.0), layout="constrained")
    load, replicas, latency, violations = figure.subplots(4, 1, sharex=True)
    for (colour, kind), one in zip(_LINES, rounds, strict=True):
        times = [moment.since_s for moment in one.moments]
        line = {"color": colour, "linestyle": kind}
        running = [moment.running for moment in one.moments]
        replicas.step(times, running, where="post", label=one.decider, **line)
        latency.plot(times, [1000 * m.p95_s for m in one.moments], linewidth=0.9, **line)
        violations.plot(times, [moment.violations for moment in one.moments], **line)
    times = [moment.since_s for moment in rounds[0].moments]
    load.fill_between(times, [m.rate for m in rounds[0].moments], color="#bbbbbb")
    latency.axhline(1000 * rounds[0].objective_s, color="black", linewidth=0.8, linestyle="--")
    load.set_ylabel("requests/s")
    replicas.set_ylabel("pods running")
    latency.set_ylabel("p95 [ms]")
    violations.set_ylabel("violations so far")
    violations.set_xlabel("seconds")
    replicas.legend(frameon=False, ncols=2)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]
