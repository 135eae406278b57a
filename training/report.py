"""A judgement as one HTML file that needs nothing beside it: tables first, then plots, then limits.

The page is made from the same document that is written as JSON, and from the plots; it computes
nothing, so that page and JSON cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

_CSS: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
tr.ours td { font-weight: 600; background: #eef7f2; }
.yes { color: #0b6e4f; } .no { color: #b3261e; font-weight: 600; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } svg { max-width: 100%; height: auto; }
.note { color: #555; }
"""


def page(document: Mapping[str, Any], plots: Mapping[str, Sequence[str]]) -> str:
    """The report.

    Args:
        document: What `commands.evaluate` writes as JSON.
        plots: Heading to the SVG figures below it.
    """
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(document['title'])}</title><style>{_CSS}</style></head><body>",
        f"<h1>{escape(document['title'])}</h1>",
        f"<p class='note'>{escape(_setting(document))}</p>",
        "<h2>All policies</h2>",
        _policy_table(document),
        _comparison(document),
        _gate(document),
        "<h2>By service</h2>",
        _group_table(document),
    ]
    for heading, figures in plots.items():
        parts += [f"<h2>{escape(heading)}</h2><div class='plots'>", *figures, "</div>"]
    parts.append("</body></html>\n")
    return "\n".join(parts)


def policy_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """The table of policies as text, for page and terminal alike."""
    return [
        [
            row["policy"],
            f"{100 * row['mean_violation_ratio']:.3f} %",
            f"{100 * row['worst_window_violation_ratio']:.2f} %",
            f"{row['pod_hours']:.0f}",
            f"{row['cost_ratio']:.3f}",
            f"{1000 * row['p95_s']:.0f} ms",
            f"{1000 * row['p99_s']:.0f} ms",
            f"{row['changes_per_hour']:.1f}",
            f"{row['turns_per_hour']:.2f}",
            _gap(row.get("oracle_gap")),
        ]
        for row in document["policies"]
    ]


POLICY_COLUMNS: Final = (
    "policy",
    "violations",
    "worst window",
    "pod-hours",
    "over rival",
    "p95",
    "p99",
    "changes/h",
    "turns/h",
    "gap to oracle",
)


def _gap(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _setting(document: Mapping[str, Any]) -> str:
    objective = document["objective"]
    return (
        f"{len(document['windows'])} windows, seeds {document['seeds']}, {document['engine']} "
        f"engine. Objective: at most {100 * objective['violation_budget_ratio']:g} % of the "
        f"requests slower than {1000 * objective['latency_s']:g} ms or failed, in the mean over "
        f"windows; {1000 * objective['service_time_s']:g} ms a request, start-up "
        f"{objective['startup_s']:g} s, {objective['busy_pods']:g} busy pods at the 99.9th "
        f"percentile of each window. Rival: {document['rival']}."
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], ours: Sequence[bool]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr{' class=ours' if own else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row, own in zip(rows, ours, strict=True)
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _policy_table(document: Mapping[str, Any]) -> str:
    ours = [bool(row.get("ours")) for row in document["policies"]]
    return _table(POLICY_COLUMNS, policy_rows(document), ours)


def _group_table(document: Mapping[str, Any]) -> str:
    groups = document["groups"]
    columns = ["policy", *(f"{group}: {what}" for group in groups for what in ("viol.", "pod-h"))]
    rows = [
        [
            row["policy"],
            *(
                cell
                for group in groups
                for cell in (
                    f"{100 * row['groups'][group]['mean_violation_ratio']:.2f} %",
                    f"{row['groups'][group]['pod_hours']:.0f}",
                )
            ),
        ]
        for row in document["policies"]
    ]
    return _table(columns, rows, [bool(row.get("ours")) for row in document["policies"]])


def _comparison(document: Mapping[str, Any]) -> str:
    rows = [
        [
            each["policy"],
            each["against"],
            f"{each['cost_ratio']:.3f}",
            f"{each['low']:.3f} to {each['high']:.3f}",
            "" if each["matched"] is None else f"{each['matched']:.3f}",
        ]
        for each in document["comparisons"]
    ]
    if not rows:
        return ""
    columns = ("policy", "against", "pod-hours ratio", "95 % interval", "at matched violation")
    note = (
        "<p class='note'>Ratios pair windows and seeds; intervals resample windows. At matched "
        "violation: the other family is read off its frontier where it violates as often.</p>"
    )
    return "<h2>Paired comparisons</h2>" + _table(columns, rows, [False] * len(rows)) + note


def _gate(document: Mapping[str, Any]) -> str:
    gate = document.get("gate")
    if gate is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(each['name'])}</td><td>{each['value']:.4g}</td>"
        f"<td>{each['limit']:.4g}</td>"
        f"<td class='{'yes' if each['passed'] else 'no'}'>{'yes' if each['passed'] else 'no'}</td>"
        "</tr>"
        for each in gate["conditions"]
    )
    verdict = "passed" if gate["passed"] else "not passed"
    return (
        f"<h2>Gate: {verdict}</h2><table><tr><th>condition</th><th>value</th><th>limit</th>"
        f"<th>holds</th></tr>{rows}</table>"
    )
