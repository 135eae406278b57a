"""The console's JSON: four documents, from what a server knows of its workloads.

Both servers answer with the same documents; what differs is behind `Source`. Errors are
`NimbusGuardError`s, which each server tells in its own way, in the one shape that errors have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from nimbusguard.console.comparison import (
    STABILIZATION_S,
    WINDOW_S,
    Bounds,
    compare,
    hpa_held,
)
from nimbusguard.console.decisions import (
    P95,
    RATE,
    Decision,
    document_of,
    instance_of,
    summary_of,
)
from nimbusguard.console.journal import Journal, Shadowed
from nimbusguard.contract.errors import InvalidRequest, NotFound

PAGE_SIZES: Final = (1, 200)
SORTS: Final = ("workload", "load", "p95_s", "current_replicas", "at_s", "changes", "problem")
MOST_POINTS: Final = 600
"""Decisions in one history: as many as a chart can show; more are thinned out."""
_HISTORY_S: Final = 900.0


class Unseen(NamedTuple):
    """A workload of which there is no decision yet."""

    workload: str
    target: str
    mode: str


class Source(Protocol):
    """What a server knows."""

    kind: str
    """`operator` or `transformer`."""

    @property
    def journal(self) -> Journal:
        """The last decisions."""
        ...

    def now_s(self) -> float:
        """Unix time."""
        ...

    def about(self, workload: str) -> dict[str, Any]:
        """Spec and state of a workload: bounds, pause, problem and commands; all keys always."""
        ...

    def problem(self, workload: str) -> str | None:
        """That of `about`, without the rest: it is asked of all at once."""
        ...

    def unseen(self) -> Sequence[Unseen]:
        """Workloads without a decision."""
        ...

    def state(self) -> dict[str, Any]:
        """Of the server itself."""
        ...

    async def history(self, workload: str, since_s: float, until_s: float) -> Sequence[Decision]:
        """Decisions between two Unix times, oldest first, from where there is most."""
        ...

    async def explain(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        """What `:explain` answers for one instance.

        Raises:
            NimbusGuardError: It does not.
        """
        ...


class ConsoleApi:
    """Answers the console's questions."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def answer(self, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The document of a name.

        Raises:
            NotFound: There is no such document, workload or decision.
            InvalidRequest: A parameter breaks its rule.
        """
        if name == "overview":
            return self.overview()
        if name == "workloads":
            return self.workloads(query)
        if name == "workload":
            return await self.workload(query)
        if name == "explanation":
            return await self.explanation(query)
        message = f"console: expected one of {', '.join(NAMES)}, got {name[:60]!r}"
        raise NotFound(message)

    def overview(self) -> dict[str, Any]:
        """The server, and sums over all workloads."""
        last = self._source.journal.last()
        every: list[Decision | Unseen] = [*last, *self._source.unseen()]
        return {
            "server": self._source.kind,
            "now_s": self._source.now_s(),
            "workloads": len(every),
            "changes": sum(self._changes(one) for one in last),
            "problems": sum(map(self._has_problem, every)),
            "by_mode": dict(Counter(one.mode for one in last)),
            "by_source": dict(Counter(one.source for one in last)),
            "by_action": dict(Counter(one.action.name for one in last)),
            "by_version": dict(Counter(one.model_version or "none" for one in last)),
            "canary": self._canary(last),
            **self._source.state(),
        }

    def workloads(self, query: Mapping[str, str]) -> dict[str, Any]:
        """One page of the workloads, by name or by another column."""
        search = query.get("search", "").strip().lower()
        sort = query.get("sort", "workload")
        if sort not in SORTS:
            message = f"sort: expected one of {', '.join(SORTS)}, got {sort[:60]!r}"
            raise InvalidRequest(message)
        size = _whole(query, "size", 50, *PAGE_SIZES)
        rows: list[Decision | Unseen] = [*self._source.journal.last(), *self._source.unseen()]
        found = [row for row in rows if search in f"{row.workload} {row.target}".lower()]
        found.sort(key=lambda row: row.workload)
        if sort != "workload":
            found.sort(key=lambda row: -self._value(row, sort))
        pages = max(-(-len(found) // size), 1)
        page = min(_whole(query, "page", 1, 1, 1_000_000), pages)
        shown = []
        for row in found[(page - 1) * size : page * size]:
            about = self._source.about(row.workload)
            own = row._asdict() if isinstance(row, Unseen) else self._row(row, _bounds_of(about))
            shown.append({**own, "paused": about["paused"], "problem": about["problem"]})
        return {
            "now_s": self._source.now_s(),
            "total": len(rows),
            "matching": len(found),
            "page": page,
            "pages": pages,
            "rows": shown,
        }

    async def workload(self, query: Mapping[str, str]) -> dict[str, Any]:
        """One workload: its last decisions, and how it compares with the HPA."""
        key = query.get("key", "")
        now_s = self._source.now_s()
        recent = self._recent(key)
        seconds = _whole(query, "seconds", int(_HISTORY_S), 60, 7 * 86_400)
        until_s = _number(query, "until_s", now_s)
        since_s = until_s - seconds
        # What the HPA wished before the first one holds its pods up at that one.
        found = await self._source.history(key, since_s - STABILIZATION_S, until_s)
        about = self._source.about(key)
        latency_s = about["objective_latency_s"]
        bounds = _bounds_of(about)
        comparison = compare(recent, bounds, now_s=now_s, latency_s=latency_s)
        return {
            "now_s": now_s,
            "from_s": since_s,
            "until_s": until_s,
            "about": about,
            "last": document_of(recent[-1], bounds),
            "canary": self._canary_of(recent, bounds, now_s),
            "comparison": comparison.document(),
            "recent": _rows(recent, bounds, now_s - WINDOW_S)[::-1],
            "history": _thinned(_rows(found, bounds, since_s)),
        }

    async def explanation(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Why a decision was made: its question asked again, with `:explain`."""
        key, name = query.get("key", ""), query.get("id", "")
        decision = next((one for one in self._recent(key) if one.decision_id == name), None)
        if decision is None:
            message = f"id: expected one of the last decisions of {key[:120]!r}, got {name[:80]!r}"
            raise NotFound(message)
        if decision.q_values is None:
            message = f"id: {decision.source} decided, no network; there are no Q-values to explain"
            raise InvalidRequest(message)
        answer = await self._source.explain(instance_of(decision))
        return {
            "id": decision.decision_id,
            "model_version": answer["predictions"][0]["model_version"],
            "same_version": answer["predictions"][0]["model_version"] == decision.model_version,
            "same_action": answer["predictions"][0]["action"] == decision.action.name,
            "explanation": answer["explanations"][0],
        }

    def _row(self, decision: Decision, bounds: Bounds) -> dict[str, Any]:
        return {**summary_of(decision, bounds), "changes": self._changes(decision)}

    def _changes(self, last: Decision) -> int:
        """Changes of a workload within five minutes."""
        return self._source.journal.changes_of(last.workload, self._source.now_s() - WINDOW_S)

    def _has_problem(self, row: Decision | Unseen) -> bool:
        return self._source.problem(row.workload) is not None

    def _value(self, row: Decision | Unseen, sort: str) -> float:
        """What a row is sorted by, highest first; a missing value comes last."""
        if sort == "problem":
            return float(self._has_problem(row))
        if isinstance(row, Unseen):
            return -1.0
        if sort == "changes":
            return float(self._changes(row))
        if sort in ("load", "p95_s"):
            value = row.raw[RATE if sort == "load" else P95]
            return value if value >= 0.0 else -1.0  # NaN too
        return float(row.at_s if sort == "at_s" else row.current_replicas)

    def _recent(self, key: str) -> Sequence[Decision]:
        recent = self._source.journal.of(key)
        if not recent:
            message = f"key: expected a workload with a decision, got {key[:120]!r}"
            raise NotFound(message)
        return recent

    def _canary_of(
        self, recent: Sequence[Decision], bounds: Bounds, now_s: float
    ) -> dict[str, Any] | None:
        """What it would have done last, and how often it disagreed within the five minutes."""
        journal, key = self._source.journal, recent[-1].workload
        shadow = journal.shadow_of(key)
        if shadow is None:
            return None
        own = {one.at_s: one for one in recent if one.at_s > now_s - WINDOW_S}
        pairs = [(own[other.at_s], other) for other in journal.shadowed(key) if other.at_s in own]
        return {**document_of(shadow, bounds), **_agreement(pairs)}

    def _canary(self, last: Sequence[Decision]) -> dict[str, int] | None:
        """How many workloads the canary decides for, and how often it disagrees in the shadow."""
        answers = [(one, self._source.journal.shadowed(one.workload)) for one in last]
        pairs = [(one, known[-1]) for one, known in answers if known]
        own = sum(one.arm == "canary" for one in last)
        if not own and not pairs:
            return None
        return {"workloads": own, **_agreement(pairs)}


NAMES: Final = ("overview", "workloads", "workload", "explanation")


def _bounds_of(about: Mapping[str, Any]) -> Bounds:
    """Those of the policy; none where nobody knows them."""
    least, most = about["min_replicas"], about["max_replicas"]
    return Bounds() if least is None or most is None else Bounds(least, most)


def _agreement(pairs: Sequence[tuple[Decision, Shadowed]]) -> dict[str, int]:
    """Of decisions and the canary's about the same: a fallback of either says nothing."""
    disagree = [
        one.action is not other.action
        for one, other in pairs
        if one.q_values is not None and other.is_network
    ]
    return {"compared": len(disagree), "disagree": sum(disagree)}


def _rows(decisions: Sequence[Decision], bounds: Bounds, since_s: float) -> list[dict[str, Any]]:
    """Those after a Unix time, each with the pods that the HPA would have held then.

    Answers to single questions have no before: for them that is the wish of its rule.
    """
    rows = []
    for one, held in zip(decisions, hpa_held(decisions, bounds), strict=True):
        if one.at_s > since_s:
            row = summary_of(one, bounds)
            rows.append({**row, "hpa_held": row["hpa_replicas"] if one.mode == "asked" else held})
    return rows


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most as many as a chart shows, evenly, with the last one."""
    step = -(-len(rows) // MOST_POINTS)
    return rows[::-1][:: max(step, 1)][::-1]


def _whole(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, "") or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 12 or not low <= int(text) <= high:
        message = f"{name}: expected a whole number from {low} to {high}, got {text[:40]!r}"
        raise InvalidRequest(message)
    return int(text)


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    text = query.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e12:
        message = f"{name}: expected seconds of Unix time, got {text[:40]!r}"
        raise InvalidRequest(message)
    return value
