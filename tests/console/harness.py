"""Decisions of imagined workloads, and a source that knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nimbusguard.console.api import Unseen
from nimbusguard.console.decisions import Decision
from nimbusguard.console.journal import Journal
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.features import INDEX

NOW_S = 10_000.0
BASE = Decision(
    decision_id="d",
    workload="shop/web",
    target="Deployment/web",
    at_s=NOW_S,
    interval_s=15.0,
    mode="act",
    arm="stable",
    source="kserve",
    model_version="2",
    raw=(0.7, 0.5, 1e5, 100.0, 4.0, 0.1, 0.0, 3.0, 0.0, 0.5, 0.5),
    allowed=(True,) * 5,
    q_values=(-2.0, -1.0, 0.5, 0.25, 0.0),
    action=ScaleAction.NO_ACTION,
    current_replicas=4,
    target_replicas=4,
    applied=False,
    guard=(),
)


def decided(seconds_ago: float = 0.0, **changes: Any) -> Decision:
    """A decision; features are changed by their names, all else by the field's."""
    raw = list(BASE.raw)
    for name in [name for name in changes if name in INDEX]:
        raw[INDEX[name]] = changes.pop(name)
    at_s = NOW_S - seconds_ago
    return replace(BASE, **({"at_s": at_s, "decision_id": f"d{at_s}", "raw": tuple(raw)} | changes))


class FakeSource:
    """A server with a journal and nothing else."""

    kind = "operator"

    def __init__(self, *decisions: Decision) -> None:
        self.journal = Journal()
        self.journal.saw(decisions)
        self.asked: list[Mapping[str, Any]] = []
        self.missing: list[Unseen] = []
        self.problems: dict[str, str] = {}
        self.answer: dict[str, Any] = {
            "predictions": [{"model_version": "2", "action": "NO_ACTION"}],
            "explanations": [{"sentence": "s", "features": [], "action": "NO_ACTION"}],
        }

    def now_s(self) -> float:
        return NOW_S

    def state(self) -> dict[str, Any]:
        return {"leader": True, "recorded": False}

    def about(self, workload: str) -> dict[str, Any]:
        return {
            "workload": workload,
            "target": "Deployment/web",
            "mode": "act",
            "paused": False,
            "problem": self.problem(workload),
            "min_replicas": 1,
            "max_replicas": 9,
            "interval_s": 15.0,
            "objective_latency_s": 0.25,
            "pause_command": "kubectl annotate …",
            "resume_command": "kubectl annotate …",
            "stop_all_command": "kubectl scale …",
        }

    def problem(self, workload: str) -> str | None:
        return self.problems.get(workload)

    def unseen(self) -> Sequence[Unseen]:
        return self.missing

    async def history(self, workload: str, since_s: float, until_s: float) -> Sequence[Decision]:
        return [one for one in self.journal.of(workload) if since_s <= one.at_s <= until_s]

    async def explain(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(instance)
        return self.answer
