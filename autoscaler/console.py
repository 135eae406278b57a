"""What the operator knows, as the console asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import httpx

from autoscaler.arms import SHADOW
from autoscaler.experience import ExperienceStore
from autoscaler.fleet import Entry, Fleet
from autoscaler.policy_spec import PAUSE_ANNOTATION
from autoscaler.records import Experience
from nimbusguard.console.api import Unseen
from nimbusguard.console.decisions import Decision
from nimbusguard.console.journal import Journal
from nimbusguard.contract.errors import InvalidRequest, PredictorUnavailable

_EXPLAIN_TIMEOUT_S: Final = 5.0
STOP_ALL_COMMAND: Final = (
    "kubectl -n nimbusguard scale deployment nimbusguard-operator --replicas=0"
)
"""Names as in manifests/autoscaler."""
_FINE: Final = frozenset({"Shadow", "Advise", "Paused"})
"""Reasons of conditions that somebody wanted; they are no problems."""


class OperatorSource:
    """The console's source: the fleet, the last decisions, the experience store.

    Args:
        fleet: The policies.
        journal: The last decisions.
        store: Earlier ones; None where nothing is kept.
        explain_url: `:explain` of the stable transformer.
        now: The time on the wall.
        is_leader: Whether this operator decides.
    """

    kind = "operator"

    def __init__(
        self,
        fleet: Fleet,
        journal: Journal,
        store: ExperienceStore | None,
        explain_url: str,
        *,
        now: Callable[[], datetime],
        is_leader: Callable[[], bool],
    ) -> None:
        self.journal = journal
        self._fleet = fleet
        self._store = store
        self._explain_url = explain_url
        self._now = now
        self._is_leader = is_leader
        self._client = httpx.AsyncClient(timeout=_EXPLAIN_TIMEOUT_S)

    def now_s(self) -> float:
        """Unix time."""
        return self._now().timestamp()

    def state(self) -> dict[str, Any]:
        """Whether it decides, and whether history outlives it."""
        return {"leader": self._is_leader(), "recorded": self._store is not None}

    def about(self, workload: str) -> dict[str, Any]:
        """Spec and state of a policy."""
        namespace, _, name = workload.partition("/")
        entry = self._fleet.get(namespace, name)
        spec = entry.policy.spec if entry is not None and entry.policy is not None else None
        command = f"kubectl annotate --overwrite scalingpolicy {name} -n {namespace} "
        return {
            "workload": workload,
            "target": None if spec is None else str(spec.target),
            "mode": None if spec is None else spec.mode.value,
            "paused": entry is not None and entry.policy is not None and entry.policy.paused,
            "problem": self.problem(workload),
            "min_replicas": None if spec is None else spec.min_replicas,
            "max_replicas": None if spec is None else spec.max_replicas,
            "interval_s": None if spec is None else spec.interval_s,
            "objective_latency_s": None if spec is None else spec.objective.latency_s,
            "pause_command": f"{command}{PAUSE_ANNOTATION}=true",
            "resume_command": f"{command}{PAUSE_ANNOTATION}-",
            "stop_all_command": STOP_ALL_COMMAND,
        }

    def problem(self, workload: str) -> str | None:
        """What keeps a policy from working, in a line."""
        namespace, _, name = workload.partition("/")
        entry = self._fleet.get(namespace, name)
        return "the policy was deleted" if entry is None else _problem(entry)

    def unseen(self) -> list[Unseen]:
        """Policies that have no decision: new, refused, or of a workload that is not there."""
        known = {decision.workload for decision in self.journal.last()}
        return [
            Unseen(
                key,
                str(entry.policy.spec.target) if entry.policy else "",
                entry.policy.spec.mode.value if entry.policy else "refused",
            )
            for entry in self._fleet
            if (key := f"{entry.namespace}/{entry.name}") not in known
        ]

    async def history(self, workload: str, since_s: float, until_s: float) -> Sequence[Decision]:
        """From the store where there is one, else from memory."""
        if self._store is None:
            return [one for one in self.journal.of(workload) if since_s <= one.at_s <= until_s]
        rows = await asyncio.to_thread(self._store.of_policy, workload, since_s, until_s)
        return [decision_of(row) for row in rows]

    async def explain(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        """Asks the transformer.

        Raises:
            PredictorUnavailable: It does not answer.
            InvalidRequest: It refuses.
        """
        try:
            response = await self._client.post(self._explain_url, json={"instances": [instance]})
            document = response.json()
        except (httpx.HTTPError, ValueError) as exc:
            message = f"{self._explain_url}: expected an explanation, got {exc!r}"
            raise PredictorUnavailable(message) from exc
        if response.status_code == httpx.codes.OK and "explanations" in document:
            return dict(document)
        message = f"{self._explain_url}: answered {response.status_code}: {response.text[:500]}"
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise InvalidRequest(message)
        raise PredictorUnavailable(message)

    def saw(self, experiences: Sequence[Experience]) -> None:
        """Keep what was just decided, and what the canary would have done."""
        self.journal.saw(decision_of(one) for one in experiences if not _is_shadow(one))
        for one in experiences:
            if _is_shadow(one):
                self.journal.saw_shadow(decision_of(one))

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()


def decision_of(one: Experience) -> Decision:
    """A record as the console shows it."""
    return Decision(
        decision_id=one.decision_id,
        workload=one.policy,
        target=one.target,
        at_s=one.decided_at_s,
        interval_s=one.interval_s,
        mode=one.mode,
        arm=one.arm,
        source=one.source,
        model_version=one.model_version,
        raw=one.raw,
        allowed=one.allowed,
        q_values=one.q_values,
        action=one.action,
        current_replicas=one.current_replicas,
        target_replicas=one.target_replicas,
        applied=one.applied,
        guard=one.guard,
    )


def _is_shadow(one: Experience) -> bool:
    """Whether a record is the canary's answer, which was not followed."""
    return one.arm == SHADOW


def _problem(entry: Entry) -> str | None:
    if entry.problem is not None:
        return entry.problem
    for condition in entry.status.get("conditions") or ():
        if condition["status"] == "False" and condition["reason"] not in _FINE:
            return f"{condition['type']}: {condition['reason']}: {condition['message']}"
    return None
