"""The last decisions of every workload, in memory: what the page shows without asking a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from nimbusguard.console.decisions import Decision
from nimbusguard.contract.actions import ScaleAction

KEPT: Final = 48
"""Decisions of one workload, whatever their age: twelve minutes at the default interval."""
MOST: Final = 60_000
"""Decisions of all workloads, about 60 MiB; from it on none keeps more than its number."""


class Shadowed(NamedTuple):
    """What is kept of a canary's answers but the last one: a tenth of a decision."""

    at_s: float
    """As of the decision that counted."""
    action: ScaleAction
    is_network: bool
    """Whether a network answered; a fallback says nothing of the canary."""


class Journal:
    """Keeps a few decisions of many workloads, newest last."""

    def __init__(
        self, *, kept: int = KEPT, span_s: float = 0.0, workloads: int = 10_000, most: int = MOST
    ) -> None:
        """Keep nothing yet.

        Args:
            kept: Decisions of one workload, whatever their age.
            span_s: Seconds before its newest decision of which all are kept, be they more.
            workloads: Most workloads; the one heard of longest ago is dropped for a new one.
            most: Decisions of all workloads from which on only `kept` counts.
        """
        self._kept = kept
        self._span_s = span_s
        self._workloads = workloads
        self._most = most
        self._size = 0
        self._by_workload: dict[str, deque[Decision]] = {}
        self._shadows: dict[str, Decision] = {}
        self._shadow_actions: dict[str, deque[Shadowed]] = {}

    def saw(self, decisions: Iterable[Decision]) -> None:
        """Keep decisions."""
        for decision in decisions:
            known = self._by_workload.pop(decision.workload, None)
            if known is None:
                known = deque()
            known.append(decision)
            self._size += 1
            oldest_s = decision.at_s - self._span_s
            while len(known) > self._kept and (
                known[0].at_s <= oldest_s or self._size > self._most
            ):
                known.popleft()
                self._size -= 1
            self._by_workload[decision.workload] = known  # now the last one heard of
        while len(self._by_workload) > self._workloads:
            self.forget(next(iter(self._by_workload)))

    def changes_of(self, workload: str, since_s: float) -> int:
        """How many of its decisions after a Unix time were carried out."""
        count = 0
        for decision in reversed(self._by_workload.get(workload, ())):
            if decision.at_s <= since_s:
                break
            count += decision.applied
        return count

    def saw_shadow(self, decision: Decision) -> None:
        """Keep what the canary would have done, beside the decision that counted."""
        self._shadows[decision.workload] = decision
        known = self._shadow_actions.setdefault(decision.workload, deque(maxlen=self._kept))
        known.append(Shadowed(decision.at_s, decision.action, decision.q_values is not None))

    def forget(self, workload: str) -> None:
        """Drop a workload that is gone."""
        self._size -= len(self._by_workload.pop(workload, ()))
        self._shadows.pop(workload, None)
        self._shadow_actions.pop(workload, None)

    def last(self) -> list[Decision]:
        """The newest decision of every workload."""
        return [decisions[-1] for decisions in self._by_workload.values()]

    def of(self, workload: str) -> Sequence[Decision]:
        """Decisions of a workload, oldest first; none of one that is unknown."""
        return tuple(self._by_workload.get(workload, ()))

    def shadow_of(self, workload: str) -> Decision | None:
        """What the canary would have done last, if it is asked in the shadow."""
        return self._shadows.get(workload)

    def shadowed(self, workload: str) -> Sequence[Shadowed]:
        """What the canary would have done, oldest first; none where it is not asked."""
        return tuple(self._shadow_actions.get(workload, ()))
