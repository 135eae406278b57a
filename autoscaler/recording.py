"""Decisions and outcomes to the experience store: it may fail, and the loop goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoscaler.experience import ExperienceStore
from autoscaler.fleet import Entry
from autoscaler.judgement import Look, experience_of, outcome_of
from autoscaler.metrics import OperatorMetrics
from autoscaler.records import Experience, Outcome
from nimbusguard.client.observation import Observation
from nimbusguard.contract.errors import NimbusGuardError

_LOG: Final = logging.getLogger(__name__)
_LONGEST_GAP: Final = 2.5
"""Intervals after which the next look says nothing of a decision any more."""


class Recorder:
    """Keeps what was decided and what came of it."""

    def __init__(
        self,
        store: ExperienceStore | None,
        metrics: OperatorMetrics,
        absent_as_zero: NDArray[np.bool_],
    ) -> None:
        """Nothing is kept without a store."""
        self._store = store
        self._metrics = metrics
        self._absent_as_zero = absent_as_zero

    def finished(self, entry: Entry, seen: Observation, unix_s: float) -> list[Outcome]:
        """The outcome of an entry's last decision, seen from its next look.

        None after a gap, and none where the clock was set back meanwhile: an interval that lasted
        no time would look like one that cost nothing.
        """
        look = entry.look
        if look is None:
            return []
        interval_s = look.evaluation.policy.spec.interval_s
        if not 0.0 < unix_s - look.unix_s <= _LONGEST_GAP * interval_s:
            return []
        return [outcome_of(look, seen, unix_s=unix_s, absent_as_zero=self._absent_as_zero)]

    def decided(self, look: Look, *, applied: bool) -> Experience:
        """The record of a decision."""
        return experience_of(look, applied=applied, absent_as_zero=self._absent_as_zero)

    async def keep(self, decisions: Sequence[Experience], outcomes: Sequence[Outcome]) -> None:
        """Write them in a thread of their own; a store that fails costs records, not decisions."""
        if self._store is None:
            return
        rows = len(decisions) + len(outcomes)
        try:
            await asyncio.to_thread(self._write, self._store, decisions, outcomes)
        except NimbusGuardError as exc:
            self._metrics.experience.labels("failed").inc(rows)
            _LOG.warning("experience not recorded", extra={"rows": rows, "error": str(exc)})
        else:
            self._metrics.experience.labels("ok").inc(rows)

    @staticmethod
    def _write(
        store: ExperienceStore, decisions: Sequence[Experience], outcomes: Sequence[Outcome]
    ) -> None:
        store.record(decisions)
        store.complete(outcomes)
