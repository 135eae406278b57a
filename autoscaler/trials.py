"""Experience as the arms of a canary's judgement: questions, decisions and what became of them.

A question to KServe carries many workloads, and fails or dawdles for all of them at once; so it is
counted once. Actions and outcomes are counted by workload. What the local model or a rule decided
says nothing about a version, and is left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from autoscaler.arms import SHADOW, Arm
from autoscaler.policy_spec import Mode
from autoscaler.rails import Rail
from nimbusguard.client.asked import Ended
from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy import canary
from nimbusguard.policy.bounds import Histogram

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ALLOWED_SHARE: Final = 0.01
"""Share of violating requests that an interval may have. A p95 above the objective counts as 5 %
(`judgement.violating_share`), so it always violates."""
TAKEN_BACK_WITHIN: Final = 10
"""Intervals within which the opposite change takes a change back: two and a half minutes."""
_RULED: Final = frozenset({Rail.OUT_OF_DISTRIBUTION.value, Rail.INDIFFERENT.value})
_REFUSED: Final = frozenset({Ended.REFUSED.value, Ended.REFUSED_QUESTION.value})
_FAILED: Final = frozenset({Ended.FAILED.value, Ended.NON_FINITE.value})


class Trial(NamedTuple):
    """What a judgement needs of one decision and of its outcome."""

    policy: str
    decided_at_s: float
    mode: str
    arm: str
    action: int
    asked: str
    answer_s: float | None
    model_version: str | None
    fingerprint: str
    current_replicas: int
    rules: frozenset[str]
    next_replicas: int | None
    """None without an outcome, as the two below."""
    requests: float | None
    """That came until the next look."""
    violating: float | None
    """Of them."""


class SideBySide(NamedTuple):
    """Two versions side by side."""

    stable: canary.Arm
    canary: canary.Arm
    shadow: canary.Comparison | None
    """Equal states that both decided; None if the canary was asked about none of stable's."""


def compare(trials: Iterable[Trial], *, version: str, stable: str | None = None) -> SideBySide:
    """Count what both versions did.

    Args:
        trials: In the order in which they were recorded.
        version: The one on trial.
        stable: The one to compare with; may be left out if only one decided.

    Raises:
        InvalidRequest: One of the two decided nothing, or it is not clear which is stable.
    """
    tally = _Tally()
    for trial in trials:
        tally.add(trial)
    known = sorted(name for group, name in tally.versions if group is Arm.STABLE)
    if stable is None:
        others = [name for name in known if name != version]
        if len(others) != 1:
            message = f"--stable: expected, because stable was: {', '.join(others) or 'no version'}"
            raise InvalidRequest(message)
        (stable,) = others
    compared, differing = tally.compared.get((stable, version), (0, 0))
    shadow = canary.Comparison(compared=compared, differing=differing) if compared else None
    return SideBySide(
        stable=tally.arm(Arm.STABLE, stable),
        canary=tally.arm(Arm.CANARY, version),
        shadow=shadow,
    )


@dataclass(slots=True)
class _Counts:
    """Of one version in one group."""

    fingerprint: str = ""
    answered: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    actions: list[int] = field(default_factory=lambda: [0] * ACTION_DIM)
    workloads: set[str] = field(default_factory=set)
    intervals: int = 0
    violating: int = 0
    taken_back: int = 0


@dataclass(slots=True)
class _Unanswered:
    """Of one group, of whatever version: nobody said which it was."""

    refused: int = 0
    failed: int = 0
    non_finite: int = 0


class _Change(NamedTuple):
    """The last change of a workload's replicas."""

    is_removal: bool
    interval: int
    """Its number among the workload's intervals."""


class _Tally:
    """A fold over trials; its memory grows with the workloads and not with the trials."""

    def __init__(self) -> None:
        self.versions: dict[tuple[Arm, str], _Counts] = {}
        self.compared: dict[tuple[str, str], tuple[int, int]] = {}
        self._unanswered = {arm: _Unanswered() for arm in Arm}
        self._questions: dict[Arm, tuple[float, set[tuple[object, ...]]]] = {}
        self._intervals: dict[str, int] = {}
        self._changes: dict[str, _Change] = {}
        self._stable: dict[str, Trial] = {}

    def add(self, trial: Trial) -> None:
        group = Arm.STABLE if trial.arm == Arm.STABLE else Arm.CANARY
        if self._is_new_question(group, trial):
            self._count_question(group, trial)
        is_answered = trial.asked == Ended.ANSWERED and trial.model_version is not None
        if is_answered and not trial.rules & _RULED:
            self._of(group, trial).actions[trial.action] += 1
        if trial.arm == SHADOW:
            self._compare(trial)
            return
        taken_back = self._follow(trial)
        if is_answered and trial.next_replicas is not None and trial.mode != Mode.SHADOW:
            self._count_interval(self._of(group, trial), trial, taken_back=taken_back)
        if group is Arm.STABLE:
            self._stable[trial.policy] = trial

    def arm(self, group: Arm, version: str) -> canary.Arm:
        """The counts of a version.

        Raises:
            InvalidRequest: It answered nothing.
        """
        counts = self.versions.get((group, version))
        if counts is None:
            found = ", ".join(sorted(name for arm, name in self.versions if arm is group))
            message = f"version {version}: no decision as {group}; decided: {found or 'none'}"
            raise InvalidRequest(message)
        lost = self._unanswered[group]
        return canary.Arm(
            version=version,
            fingerprint=counts.fingerprint,
            requests=counts.answered + lost.refused + lost.failed,
            errors=lost.failed,
            refused=lost.refused,
            non_finite=lost.non_finite,
            latency=Histogram(BOUNDS_S, tuple(counts.latency)),
            actions=tuple(counts.actions),
            workloads=canary.WorkloadFigures(
                workloads=len(counts.workloads),
                intervals=counts.intervals,
                violating=counts.violating,
                taken_back=counts.taken_back,
            ),
        )

    def _of(self, group: Arm, trial: Trial) -> _Counts:
        counts = self.versions.setdefault((group, trial.model_version or ""), _Counts())
        counts.fingerprint = trial.fingerprint
        return counts

    def _is_new_question(self, group: Arm, trial: Trial) -> bool:
        """Whether this is the first workload of its question; those of one have one duration."""
        when, seen = self._questions.get(group, (0.0, set()))
        if when != trial.decided_at_s:
            when, seen = trial.decided_at_s, set()
        question = (trial.asked, trial.answer_s)
        is_new = question not in seen
        self._questions[group] = (when, seen | {question})
        return is_new

    def _count_question(self, group: Arm, trial: Trial) -> None:
        lost = self._unanswered[group]
        if trial.asked == Ended.ANSWERED and trial.model_version is not None:
            counts = self._of(group, trial)
            counts.answered += 1
            counts.latency[bisect_left(BOUNDS_S, trial.answer_s or 0.0)] += 1
        elif trial.asked in _REFUSED:
            lost.refused += 1
        elif trial.asked in _FAILED:
            lost.failed += 1
            lost.non_finite += trial.asked == Ended.NON_FINITE

    def _compare(self, trial: Trial) -> None:
        """An answer in shadow beside that which was followed."""
        other = self._stable.get(trial.policy)
        if (
            other is None
            or other.decided_at_s != trial.decided_at_s
            or {other.asked, trial.asked} != {Ended.ANSWERED}
            or other.rules & _RULED
        ):
            return
        pair = (other.model_version or "", trial.model_version or "")
        compared, differing = self.compared.get(pair, (0, 0))
        self.compared[pair] = (compared + 1, differing + (other.action != trial.action))

    def _follow(self, trial: Trial) -> bool:
        """Follow a workload's replicas; whether this interval took an earlier change back."""
        number = self._intervals[trial.policy] = self._intervals.get(trial.policy, 0) + 1
        if trial.next_replicas in (None, trial.current_replicas):
            return False
        change = _Change(trial.next_replicas < trial.current_replicas, number)
        before, self._changes[trial.policy] = self._changes.get(trial.policy), change
        return (
            before is not None
            and before.is_removal != change.is_removal
            and number - before.interval <= TAKEN_BACK_WITHIN
        )

    @staticmethod
    def _count_interval(counts: _Counts, trial: Trial, *, taken_back: bool) -> None:
        counts.workloads.add(trial.policy)
        counts.intervals += 1
        counts.taken_back += taken_back
        counts.violating += (trial.violating or 0.0) > ALLOWED_SHARE * (trial.requests or 0.0)
