"""The last decisions of every workload, in memory: what the page shows without asking a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from nimbusguard.console.decisions import Decision

KEPT: Final = 48
"""Decisions of one workload: twelve minutes at the default interval, which is what a comparison of
five minutes needs with the HPA's window before them. A thousand workloads take 47 MiB."""


class Journal:
    """Keeps a few decisions of many workloads, newest last."""

    def __init__(self, *, kept: int = KEPT, workloads: int = 10_000) -> None:
        """Keep nothing yet.

        Args:
            kept: Decisions of one workload.
            workloads: Most workloads; the one heard of longest ago is dropped for a new one.
        """
        self._kept = kept
        self._workloads = workloads
        self._by_workload: dict[str, deque[Decision]] = {}
        self._shadows: dict[str, Decision] = {}

    def saw(self, decisions: Iterable[Decision]) -> None:
        """Keep decisions."""
        for decision in decisions:
            known = self._by_workload.pop(decision.workload, None)
            if known is None:
                known = deque(maxlen=self._kept)
            known.append(decision)
            self._by_workload[decision.workload] = known  # now the last one heard of
        while len(self._by_workload) > self._workloads:
            self.forget(next(iter(self._by_workload)))

    def saw_shadow(self, decision: Decision) -> None:
        """Keep what the canary would have done, beside the decision that counted."""
        self._shadows[decision.workload] = decision

    def forget(self, workload: str) -> None:
        """Drop a workload that is gone."""
        self._by_workload.pop(workload, None)
        self._shadows.pop(workload, None)

    def last(self) -> list[Decision]:
        """The newest decision of every workload."""
        return [decisions[-1] for decisions in self._by_workload.values()]

    def of(self, workload: str) -> Sequence[Decision]:
        """Decisions of a workload, oldest first; none of one that is unknown."""
        return tuple(self._by_workload.get(workload, ()))

    def shadow_of(self, workload: str) -> Decision | None:
        """What the canary would have done last, if it is asked in the shadow."""
        return self._shadows.get(workload)
