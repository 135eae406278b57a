"""One evaluation as a pure step: from what is known of many workloads to what is asked for.

The same step runs in the operator and in tests told as time passing. It knows no cluster, no
Prometheus and no clock; memory goes in and comes out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from autoscaler.evidence import EvidenceSettings, Flaw, Raw, Trail, assess
from autoscaler.policy_spec import Mode, ScalingPolicy
from autoscaler.rails import RailSettings, railed_target, trusted_action, unlearnt_target
from nimbusguard.client.fallback import Recommendation
from nimbusguard.client.observation import Observation, stack
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.normalization import absent_as_zero_mask
from nimbusguard.policy import guard

_LARGEST: Final = 1e9
"""Metrics are cut to this before the guard computes with them. No workload comes near, and products
of what a broken exporter may say (1e308, infinity) stay finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """Every rule of the loop."""

    guard: guard.GuardSettings = field(default_factory=guard.GuardSettings)
    """Interval and stabilization window are replaced by each policy's own."""
    rails: RailSettings = field(default_factory=RailSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)


class Memory(NamedTuple):
    """What is remembered of one workload between two evaluations."""

    guard: guard.GuardMemory
    trail: Trail


class Case(NamedTuple):
    """What is known of one workload when it is evaluated."""

    policy: ScalingPolicy
    memory: Memory
    seen: Observation
    recommendation: Recommendation
    conflict: str | None
    """Why the target is left to somebody else; None if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came of it."""

    policy: ScalingPolicy
    seen: Observation
    recommendation: Recommendation
    action: ScaleAction
    """What was recommended, or the HPA rule's action where the network was not believed."""
    target_replicas: int
    """What to ask for."""
    rules: tuple[str, ...]
    """Every rule that changed something, in the order in which they were applied."""
    flaws: frozenset[Flaw]
    conflict: str | None

    @property
    def applies(self) -> bool:
        """Whether the workload is to be scaled now."""
        return (
            self.policy.spec.mode is Mode.ACT
            and self.conflict is None
            and self.target_replicas != self.seen.current_replicas
        )


def remember_nothing(now_s: float) -> Memory:
    """Memory of a workload that was not seen before; nothing is removed right after a start."""
    return Memory(guard.start(1, now_s), Trail(same_since_s=now_s))


def observation_of(policy: ScalingPolicy, raw: Raw, current: int) -> Observation:
    """What the sources are asked about."""
    return Observation(
        values=raw,
        current_replicas=current,
        min_replicas=policy.spec.min_replicas,
        max_replicas=policy.spec.max_replicas,
    )


def evaluate(
    settings: LoopSettings, cases: Sequence[Case], *, now_s: float
) -> list[tuple[Memory, Evaluation]]:
    """Evaluate workloads, each by its own.

    Args:
        settings: The rules.
        cases: What is known of each workload.
        now_s: Seconds on a clock that does not run backwards.

    Returns:
        Memory for the next evaluation and what came of this one, in the order of `cases`.
    """
    mask = absent_as_zero_mask(settings.evidence.absent_as_zero)
    trusted = [
        trusted_action(
            settings.rails, case.seen, case.recommendation.action, case.recommendation.decision
        )
        for case in cases
    ]
    guarded = _guard(settings, cases, [action for action, _ in trusted], now_s)
    results = []
    for case, (action, distrust), (memory, allowed, rules) in zip(
        cases, trusted, guarded, strict=True
    ):
        trail, flaws = assess(
            settings.evidence, case.memory.trail, case.seen.values, now_s=now_s, absent_as_zero=mask
        )
        added, unlearnt = unlearnt_target(
            settings.rails,
            case.seen,
            allowed,
            cost_known=bool(np.isfinite(memory.cpu_s_per_request[0])),
        )
        target, rails = railed_target(
            case.policy, added, current=case.seen.current_replicas, flaws=flaws
        )
        evaluation = Evaluation(
            policy=case.policy,
            seen=case.seen,
            recommendation=case.recommendation,
            action=action,
            target_replicas=target,
            rules=tuple(dict.fromkeys([*distrust, *guard.names_of(rules), *unlearnt, *rails])),
            flaws=flaws,
            conflict=case.conflict,
        )
        results.append((Memory(memory, trail), evaluation))
    return results


def _guard(
    settings: LoopSettings, cases: Sequence[Case], actions: Sequence[ScaleAction], now_s: float
) -> list[tuple[guard.GuardMemory, int, int]]:
    """The guard's memory, target and rules of each case; one call for all with the same numbers."""
    alike: dict[tuple[float, float], list[int]] = defaultdict(list)
    for row, case in enumerate(cases):
        spec = case.policy.spec
        alike[spec.interval_s, spec.stabilization_window_s].append(row)
    found: dict[int, tuple[guard.GuardMemory, int, int]] = {}
    for (interval_s, window_s), members in alike.items():
        rows = stack([cases[row].seen for row in members])
        memory, verdict = guard.judge(
            replace(settings.guard, interval_s=interval_s, stabilization_window_s=window_s),
            guard.GuardMemory(
                *(
                    np.concatenate(column)
                    for column in zip(*(cases[row].memory.guard for row in members), strict=True)
                )
            ),
            np.array([actions[row] for row in members], dtype=np.int64),
            np.clip(rows.raw, 0.0, _LARGEST),
            rows.current,
            guard.Bounds(rows.minimum, rows.maximum),
            now_s=now_s,
        )
        for place, row in enumerate(members):
            own = guard.take(memory, np.array([place]))
            found[row] = (own, int(verdict.target[place]), int(verdict.rules[place]))
    return [found[row] for row in range(len(cases))]
