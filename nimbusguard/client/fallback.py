"""A decision before the deadline, always: the chain of last resorts.

::

    kserve  ->  local_model  ->  hpa_rule  ->  hold

Each row goes down the chain by itself: a workload without memory metrics is answered by the HPA
rule while its neighbours are answered by the network. Every answer names its source, and why each
source before it did not answer. `hold` cannot fail, so the chain is total.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from nimbusguard.client.asked import NOT_ASKED, Asked, Ended, ended_by
from nimbusguard.client.breaker import Breaker, BreakerSettings, admit, settle
from nimbusguard.client.decision import Decision
from nimbusguard.client.exchange import check_seconds
from nimbusguard.client.hpa_rule import hpa_action
from nimbusguard.client.instances import NamedMetrics
from nimbusguard.client.local_model import LocalModel
from nimbusguard.client.observation import Observation, Rows, stack
from nimbusguard.contract.actions import ScaleAction, allowed_actions
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, PredictorUnavailable
from nimbusguard.contract.normalization import absent_as_zero_mask, impute, names_of
from nimbusguard.policy.hpa import DEFAULT_TOLERANCE


class Source(StrEnum):
    """Who answered."""

    KSERVE = "kserve"
    LOCAL_MODEL = "local_model"
    HPA_RULE = "hpa_rule"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to do with one workload, who says so, and who could not."""

    source: Source
    action: ScaleAction
    current_replicas: int
    decision: Decision | None
    """The network's answer; None from a rule."""
    refusals: Mapping[Source, str]
    """Why each source before this one did not answer."""
    asked: Asked = NOT_ASKED
    """How the question to KServe ended, whoever answered in the end."""

    @property
    def target_replicas(self) -> int:
        """Replicas after the action."""
        return self.current_replicas + self.action.change


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSettings:
    """The chain's numbers."""

    deadline_s: float = 5.0
    """Seconds for all sources together; a third of the 15 s control loop."""
    reserve_s: float = 0.5
    """Seconds of the deadline that KServe may not use. A thousand rows of the local model take
    under a tenth of that."""
    batch_rows: int = 500
    """Rows in one question to KServe; several questions are asked at the same time."""
    hpa_target: float = 0.7
    """CPU utilization, as ratio of the limit, that the HPA rule keeps."""
    hpa_tolerance: float = DEFAULT_TOLERANCE
    """No step of the HPA rule while utilization over target lies within 1 ± this ratio."""
    absent_as_zero: tuple[str, ...] = ()
    """Features whose absence means 0; the transformer's `ABSENT_AS_ZERO` must say the same."""
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        check_seconds("deadline_s", self.deadline_s)
        if not 0.0 <= self.reserve_s < self.deadline_s:
            message = (
                f"reserve_s: expected 0 to less than the deadline ({self.deadline_s:g} s), "
                f"got {self.reserve_s}"
            )
            raise InvalidRequest(message)
        if self.batch_rows < 1:
            message = f"batch_rows: expected at least 1, got {self.batch_rows}"
            raise InvalidRequest(message)
        if not 0.0 < self.hpa_target <= 1.0:
            message = f"hpa_target: expected more than 0 and at most 1, got {self.hpa_target}"
            raise InvalidRequest(message)


class Kserve(Protocol):
    """What the chain needs of `AsyncClient`."""

    async def decide(
        self, instances: Sequence[NamedMetrics], *, deadline_s: float | None = None
    ) -> list[Decision]:
        """One decision an instance."""
        ...


class DecisionChain:
    """Asks the sources in their order; one per process, safe for many tasks at once."""

    def __init__(
        self,
        settings: FallbackSettings,
        *,
        clock: Callable[[], float],
        kserve: Kserve | None,
        local_model: Callable[[], LocalModel | None] = lambda: None,
        refuse: Callable[[Decision], str | None] = lambda decision: None,  # noqa: ARG005 - named
    ) -> None:
        """Nothing is asked yet.

        Args:
            settings: Deadline, batches and the HPA rule.
            clock: Seconds from any origin, never going back.
            kserve: The first source; None to leave it out.
            local_model: The second source at this moment; None while there is none.
            refuse: Why a decision of KServe may not be used, or None; model validation says so.
        """
        self._settings = settings
        self._clock = clock
        self._kserve = kserve
        self._local_model = local_model
        self._refuse = refuse
        self._absent_as_zero = absent_as_zero_mask(settings.absent_as_zero)
        self.breaker = Breaker()
        """The circuit breaker before KServe, for metrics."""

    async def decide(self, observations: Sequence[Observation]) -> list[Recommendation]:
        """One recommendation an observation, in their order, before the deadline; never raises."""
        ends = self._clock() + self._settings.deadline_s
        state = _Progress(observations)
        if not observations:
            return []
        self._set_aside_incomplete(state)
        await self._ask_kserve(state, ends)
        self._ask_local_model(state)
        return [self._by_rule(row, state) for row in range(len(observations))]

    def _set_aside_incomplete(self, state: _Progress) -> None:
        """One bad row would refuse the whole question, so it is kept out of it."""
        refused = impute(state.rows.raw, self._absent_as_zero).refused
        for row in np.flatnonzero(refused.any(axis=1)):
            reason = f"no metrics: {', '.join(names_of(refused[row]))}"
            state.refuse([int(row)], Source.KSERVE, reason)
            state.refuse([int(row)], Source.LOCAL_MODEL, reason)

    async def _ask_kserve(self, state: _Progress, ends: float) -> None:
        if self._kserve is None:
            state.refuse(state.open(Source.KSERVE), Source.KSERVE, "not configured")
            return
        rows, size = state.open(Source.KSERVE), self._settings.batch_rows
        batches = [rows[first : first + size] for first in range(0, len(rows), size)]
        await asyncio.gather(
            *(self._ask_batch(state, batch, ends, self._kserve) for batch in batches)
        )

    async def _ask_batch(
        self, state: _Progress, rows: list[int], ends: float, kserve: Kserve
    ) -> None:
        now = self._clock()
        budget = ends - self._settings.reserve_s - now
        self.breaker, admitted = admit(self._settings.breaker, self.breaker, now)
        if not admitted:
            state.refuse(rows, Source.KSERVE, "circuit breaker open")
            return
        try:
            async with asyncio.timeout(budget):
                decisions = await kserve.decide(
                    [state.observations[row].instance() for row in rows], deadline_s=budget
                )
            _require_own(decisions, state.rows, rows)
        except (NimbusGuardError, TimeoutError) as exc:
            ended = ended_by(exc)
            # A question that is refused says nothing against the server.
            self._settle(succeeded=ended is Ended.REFUSED_QUESTION)
            state.note(rows, Asked(ended, self._clock() - now))
            state.refuse(rows, Source.KSERVE, str(exc) or f"no answer within {budget:.3f} s")
            return
        self._settle(succeeded=True)
        seconds = self._clock() - now
        for row, decision in zip(rows, decisions, strict=True):
            reason = self._refuse(decision)
            if reason is None:
                state.answers[row] = (Source.KSERVE, decision)
                state.note([row], Asked(Ended.ANSWERED, seconds))
            else:
                state.refuse([row], Source.KSERVE, reason)
                state.note([row], Asked(Ended.UNTRUSTED, seconds))

    def _settle(self, *, succeeded: bool) -> None:
        self.breaker = settle(
            self._settings.breaker, self.breaker, succeeded=succeeded, now_s=self._clock()
        )

    def _ask_local_model(self, state: _Progress) -> None:
        rows = state.open(Source.LOCAL_MODEL)
        model = self._local_model()
        if model is None:
            state.refuse(rows, Source.LOCAL_MODEL, "no local model")
            return
        try:
            decisions = model.decide(
                [state.observations[row] for row in rows], self._absent_as_zero
            )
        except NimbusGuardError as exc:
            state.refuse(rows, Source.LOCAL_MODEL, str(exc))
            return
        for row, decision in zip(rows, decisions, strict=True):
            state.answers[row] = (Source.LOCAL_MODEL, decision)

    def _by_rule(self, row: int, state: _Progress) -> Recommendation:
        seen, refusals, asked = state.observations[row], state.refusals[row], state.asked[row]
        if row in state.answers:
            source, decision = state.answers[row]
            return Recommendation(
                source=source,
                action=decision.action,
                current_replicas=seen.current_replicas,
                decision=decision,
                refusals=refusals,
                asked=asked,
            )
        action = hpa_action(
            seen, target=self._settings.hpa_target, tolerance=self._settings.hpa_tolerance
        )
        if action is None:
            refusals[Source.HPA_RULE] = "no CPU utilization, or no replica"
        return Recommendation(
            source=Source.HOLD if action is None else Source.HPA_RULE,
            action=ScaleAction.NO_ACTION if action is None else action,
            current_replicas=seen.current_replicas,
            decision=None,
            refusals=refusals,
            asked=asked,
        )


class _Progress:
    """How far each row has come."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self.observations = observations
        self.rows = stack(observations)
        self.answers: dict[int, tuple[Source, Decision]] = {}
        self.refusals: list[dict[Source, str]] = [{} for _ in observations]
        self.asked: list[Asked] = [NOT_ASKED] * len(observations)

    def open(self, source: Source) -> list[int]:
        """Rows without an answer that `source` has not refused."""
        return [
            row
            for row, refusals in enumerate(self.refusals)
            if row not in self.answers and source not in refusals
        ]

    def refuse(self, rows: Sequence[int], source: Source, reason: str) -> None:
        for row in rows:
            self.refusals[row][source] = reason

    def note(self, rows: Sequence[int], asked: Asked) -> None:
        for row in rows:
            self.asked[row] = asked


def _require_own(decisions: Sequence[Decision], rows: Rows, asked: Sequence[int]) -> None:
    """Refuse an answer to another question: other replicas, or actions that the bounds forbid."""
    if len(decisions) != len(asked):
        message = f"predictions: expected {len(asked)}, one an instance, got {len(decisions)}"
        raise PredictorUnavailable(message)
    allowed = allowed_actions(rows.current, rows.minimum, rows.maximum)
    for row, decision in zip(asked, decisions, strict=True):
        expected = tuple(action for action in ScaleAction if allowed[row, action])
        if decision.current_replicas != rows.current[row] or decision.allowed_actions != expected:
            message = (
                f"observations[{row}]: expected a decision for {rows.current[row]} replicas in "
                f"{rows.minimum[row]} to {rows.maximum[row]}, got {decision.to_dict()}"
            )
            raise PredictorUnavailable(message)
