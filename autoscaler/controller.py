"""Whose turn it is, what is known, what was decided, what is written: the order, and no rule.

Everything that decides is pure and lives elsewhere. When a part does not answer, the workloads
concerned keep their replicas and the others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from autoscaler.arms import Arm, arm_of
from autoscaler.fleet import Entry, Fleet
from autoscaler.judgement import Look, decision_id, shadow_of
from autoscaler.kube import Conflict
from autoscaler.logs import log_decision
from autoscaler.loop import Case, Evaluation, LoopSettings, evaluate, observation_of
from autoscaler.metrics import OperatorMetrics
from autoscaler.observe import Prometheus, Reading, observe
from autoscaler.policy_spec import ScalingPolicy
from autoscaler.publish import Publisher
from autoscaler.recording import Recorder
from autoscaler.scale import Scale, Scaler
from autoscaler.status import (
    Problems,
    decided_status,
    refused_status,
    scaled_event,
    unreadable_status,
)
from autoscaler.tracing import current, evaluation, step
from autoscaler.writers import Writers, conflict_of
from nimbusguard.client.fallback import DecisionChain, Recommendation
from nimbusguard.client.observation import Observation
from nimbusguard.contract.errors import NimbusGuardError, NotFound
from nimbusguard.telemetry.spans import Tracer

_LOG: Final = logging.getLogger(__name__)
METRICS_DEADLINE_S: Final = 2.0
"""Seconds for all queries of an evaluation; with the chain's five it ends well within 15 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the controller works with."""

    scaler: Scaler
    prometheus: Prometheus
    chains: Mapping[Arm, DecisionChain]
    """Always with `stable`."""
    publisher: Publisher
    recorder: Recorder
    metrics: OperatorMetrics
    clock: Callable[[], float]
    """Seconds from any origin, never going back; decides."""
    now: Callable[[], datetime]
    """The time on the wall; only recorded and shown."""
    is_leader: Callable[[], bool]
    tracer: Tracer | None = None
    """Records sampled evaluations."""
    settings: LoopSettings = field(default_factory=LoopSettings)
    shadow_canary: bool = False
    """Whether the canary is asked about every workload, only to be recorded."""


class Known(NamedTuple):
    """A workload whose replicas could be read."""

    entry: Entry
    policy: ScalingPolicy
    scale: Scale
    reading: Reading
    seen: Observation


class Controller:
    """Evaluates the policies of a fleet, each when it is its turn."""

    def __init__(self, parts: Parts, fleet: Fleet) -> None:
        self._parts = parts
        self._fleet = fleet
        self._running: set[asyncio.Task[None]] = set()
        self._led = False
        self.writers: Writers | None = None
        """Who else scales; until that is known nothing is scaled."""
        self.ticked_s = parts.clock()
        """When the last tick was, for the liveness probe."""

    def tick(self) -> None:
        """Start the evaluation of whoever's turn it is; never waits."""
        now_s = self._parts.clock()
        self.ticked_s = now_s
        leads = self._parts.is_leader()
        self._parts.metrics.saw_leadership(leads=leads)
        if leads and not self._led:  # somebody else decided in the meantime
            self._fleet.forget_memories(now_s)
        self._led = leads
        if leads:
            self._show_breakers()
        due = self._fleet.due(now_s) if leads else []
        for entry in due:
            self._parts.metrics.lateness.observe(now_s - entry.turn_s)
        if due:
            task = asyncio.create_task(self._guarded(due))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def drain(self, timeout_s: float = 10.0) -> None:
        """Wait for the evaluations under way, and leave those that take too long.

        Args:
            timeout_s: Seconds; with the framework's own end it stays under the 30 s of a pod.
        """
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=timeout_s)
            for task in late:
                task.cancel()

    async def _guarded(self, due: Sequence[Entry]) -> None:
        try:
            with evaluation(self._parts.tracer, len(due)):
                await self.evaluate(due)
        except Exception:  # noqa: BLE001 - a failed evaluation must not be the last one
            _LOG.exception("evaluation failed", extra={"policies": len(due)})
        finally:
            for entry in due:
                entry.busy = False

    async def evaluate(self, due: Sequence[Entry]) -> None:
        """Evaluate entries once, from metrics to status."""
        started_s = self._parts.clock()
        refused = [entry for entry in due if entry.policy is None]
        with self._stage("look"):
            known = await self._look([entry for entry in due if entry.policy is not None])
        async with asyncio.TaskGroup() as tasks:
            # Asked beside the others, so that a slow canary delays nothing that is followed.
            shadowed = tasks.create_task(self._shadowed(known))
            with self._stage("decide"):
                results = self._decide(known, await self._advice(known))
            with self._stage("apply"):
                problems = await asyncio.gather(
                    *(self._apply(one, result) for one, result in zip(known, results, strict=True))
                )
            for one, result, problem in zip(known, results, problems, strict=True):
                log_decision(result, self._arm(one.policy), problem)
            await asyncio.gather(
                *(self._publish_refused(entry) for entry in refused),
                *(
                    self._publish(one, result, problem)
                    for one, result, problem in zip(known, results, problems, strict=True)
                ),
            )
            self._measure(known, results, self._parts.clock() - started_s)
        with self._stage("record"):
            await self._record(known, results, problems, shadowed.result())

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """A stage of an evaluation, timed and traced, whether it fails or not."""
        whole = current()
        began_s = self._parts.clock()
        try:
            with step(name):
                yield
        finally:
            seconds = self._parts.clock() - began_s
            trace_id = None if whole is None else whole.trace_id
            self._parts.metrics.saw_stage(name, seconds, trace_id)

    async def _look(self, entries: Sequence[Entry]) -> list[Known]:
        """Replicas and metrics of each workload; one whose replicas are unknown is left out."""
        policies = [entry.policy for entry in entries if entry.policy is not None]
        reading = observe(
            self._parts.prometheus,
            [policy.workload for policy in policies],
            deadline_s=METRICS_DEADLINE_S,
        )
        scales = asyncio.gather(
            *(self._scale(one, policy) for one, policy in zip(entries, policies, strict=True))
        )
        readings, found = await asyncio.gather(reading, scales)
        known = []
        for entry, policy, scale in zip(entries, policies, found, strict=True):
            if scale is not None:
                look = readings[policy.workload]
                seen = observation_of(policy, look.raw, scale.desired)
                known.append(Known(entry, policy, scale, look, seen))
        return known

    async def _scale(self, entry: Entry, policy: ScalingPolicy) -> Scale | None:
        try:
            return await self._parts.scaler.read(policy)
        except NimbusGuardError as exc:
            reason = "NotFound" if isinstance(exc, NotFound) else "ApiUnavailable"
            status = unreadable_status(reason, str(exc), policy.generation)
            await self._parts.publisher.publish(entry, status)
            return None

    async def _advice(self, known: Sequence[Known]) -> list[Recommendation]:
        """What the chain of each workload's arm recommends."""
        arms = [self._arm(one.policy) for one in known]
        advice: dict[int, Recommendation] = {}

        async def ask(arm: Arm) -> None:
            rows = [row for row, own in enumerate(arms) if own is arm]
            answers = await self._parts.chains[arm].decide([known[row].seen for row in rows])
            advice.update(zip(rows, answers, strict=True))

        await asyncio.gather(*(ask(arm) for arm in self._parts.chains))
        return [advice[row] for row in range(len(known))]

    def _decide(self, known: Sequence[Known], advice: Sequence[Recommendation]) -> list[Evaluation]:
        acting = self._fleet.acting()
        conflicts = [conflict_of(one.policy, self.writers, acting) for one in known]
        cases = [
            Case(one.policy, one.entry.memory, one.seen, answer, conflict)
            for one, answer, conflict in zip(known, advice, conflicts, strict=True)
        ]
        results = []
        evaluated = evaluate(self._parts.settings, cases, now_s=self._parts.clock())
        for one, (memory, result) in zip(known, evaluated, strict=True):
            one.entry.memory = memory
            results.append(result)
            self._parts.metrics.decided.observe(self._parts.clock() - one.entry.turn_s)
        return results

    async def _apply(self, one: Known, result: Evaluation) -> str | None:
        """Scale if that was decided; why it could not be, or None."""
        if not result.applies:
            return None
        if not self._parts.is_leader():
            return "no longer the leader"
        if not self._is_current(one):
            return "the policy was changed or deleted meanwhile"
        try:
            await self._write(one, result.target_replicas)
        except NimbusGuardError as exc:
            outcome = "conflict" if isinstance(exc, Conflict) else "failed"
            self._parts.metrics.scalings.labels(outcome).inc()
            return str(exc)
        self._parts.metrics.scalings.labels("ok").inc()
        return None

    async def _write(self, one: Known, replicas: int) -> None:
        """Write the scale; once more if only something else than the replicas had changed."""
        scaler = self._parts.scaler
        try:
            await scaler.write(one.scale, replicas)
        except Conflict:
            fresh = await scaler.read(one.policy)
            if fresh.desired != one.scale.desired:
                raise
            await scaler.write(fresh, replicas)

    async def _record(
        self,
        known: Sequence[Known],
        results: Sequence[Evaluation],
        problems: Sequence[str | None],
        shadowed: Mapping[int, Recommendation],
    ) -> None:
        """Keep decisions and the outcomes of those before them."""
        recorder, unix_s = self._parts.recorder, self._parts.now().timestamp()
        decisions, outcomes = [], []
        rows = zip(known, results, problems, strict=True)
        for number, (one, result, problem) in enumerate(rows):
            outcomes += recorder.finished(one.entry, one.seen, unix_s)
            arm = self._arm(one.policy)
            look = Look(result, decision_id(one.policy.uid, arm, unix_s), unix_s, arm)
            one.entry.look = look
            decisions.append(recorder.decided(look, applied=result.applies and problem is None))
            if number in shadowed:
                self._compare(result.recommendation, shadowed[number])
                imagined = shadow_of(result, shadowed[number], unix_s)
                decisions.append(recorder.decided(imagined, applied=False))
        await recorder.keep(decisions, outcomes)

    def _compare(self, stable: Recommendation, canary: Recommendation) -> None:
        """Count whether two networks agree; a fallback of either says nothing."""
        if stable.decision is not None and canary.decision is not None:
            self._parts.metrics.saw_comparison(agrees=canary.action is stable.action)

    async def _shadowed(self, known: Sequence[Known]) -> dict[int, Recommendation]:
        """What the canary would do with the workloads that are not its own, by their row."""
        chain = self._parts.chains.get(Arm.CANARY)
        if chain is None or not self._parts.shadow_canary:
            return {}
        rows = [row for row, one in enumerate(known) if self._arm(one.policy) is Arm.STABLE]
        answers = await chain.decide([known[row].seen for row in rows])
        return dict(zip(rows, answers, strict=True))

    def _arm(self, policy: ScalingPolicy) -> Arm:
        """Whose decision counts; without a canary there is only one."""
        if Arm.CANARY not in self._parts.chains:
            return Arm.STABLE
        return arm_of(policy.uid, policy.spec.canary_share)

    async def _publish(self, one: Known, result: Evaluation, problem: str | None) -> None:
        problems = Problems(metrics=one.reading.problem, scaling=problem)
        status = decided_status(result, problems, self._parts.now())
        scaled = result.applies and problem is None
        happened = [scaled_event(result)] if scaled else []
        await self._parts.publisher.publish(one.entry, status, *happened)

    async def _publish_refused(self, entry: Entry) -> None:
        status = refused_status(entry.problem or "", entry.generation)
        await self._parts.publisher.publish(entry, status)

    def _is_current(self, one: Known) -> bool:
        """Whether a policy is still what was evaluated; a pause takes effect at once."""
        return one.entry in self._fleet and one.entry.policy == one.policy

    def _measure(
        self, known: Sequence[Known], results: Sequence[Evaluation], seconds: float
    ) -> None:
        metrics = self._parts.metrics
        for one, result in zip(known, results, strict=True):
            if self._is_current(one):
                metrics.saw_evaluation(result, self._arm(one.policy))
        modes = Counter(entry.policy.spec.mode if entry.policy else None for entry in self._fleet)
        metrics.saw_policies(modes)
        metrics.saw_arms(
            Counter(self._arm(entry.policy) for entry in self._fleet if entry.policy is not None)
        )
        self._show_breakers()
        whole = current()
        metrics.saw_duration(seconds, None if whole is None else whole.trace_id)

    def _show_breakers(self) -> None:
        """At every tick too: while one question tries KServe out, its breaker is half open."""
        for arm, chain in self._parts.chains.items():
            self._parts.metrics.saw_breaker(arm, chain.breaker.state)
