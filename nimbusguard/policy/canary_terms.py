"""The words of a judgement over a canary: what was counted, what is tolerated, what was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.bounds import Histogram, checked


class Verdict(StrEnum):
    """What to do with the canary, the more serious the later."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll back"
    REFUSE = "refuse"


SERIOUSNESS = tuple(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFigures:
    """What became of the workloads that one version scaled."""

    workloads: int
    intervals: int
    """Looks at one of them, each with the look after it."""
    violating: int
    """Intervals in which more requests violated the objective than it allows."""
    taken_back: int
    """Intervals whose change of replicas was the opposite of one shortly before it."""

    def __post_init__(self) -> None:
        """Refuse counts that cannot be.

        Raises:
            InvalidRequest: A count is negative, or larger than that of which it is a part.
        """
        parts = (self.workloads, self.violating, self.taken_back)
        if min(parts) < 0 or max(parts) > self.intervals:
            message = f"workloads: expected counts from 0 to {self.intervals}, got {parts}"
            raise InvalidRequest(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What was counted of one version."""

    version: str
    fingerprint: str
    """Of the feature table that the version was trained with."""
    requests: int
    """Requests that reached it, answered or not."""
    errors: int = 0
    """Answers with 5xx other than 503, and requests that were not answered at all."""
    refused: int = 0
    """Answers with 503: overload, or a version that its transformer will not decide with."""
    non_finite: int = 0
    """Forward passes that gave NaN or infinity."""
    latency: Histogram
    """Seconds from request to answer."""
    actions: tuple[int, ...] = (0,) * ACTION_DIM
    """Decisions by action."""
    workloads: WorkloadFigures | None = None
    """Where whole workloads were assigned to a version, instead of single requests."""

    def __post_init__(self) -> None:
        """Refuse counts that cannot be.

        Raises:
            InvalidRequest: A count is negative, or more failed than were asked.
        """
        checked(self.latency)
        counts = (self.requests, self.errors, self.refused, self.non_finite, *self.actions)
        if min(counts) < 0 or max(self.errors, self.refused) > self.requests:
            message = (
                f"version {self.version}: expected counts from 0 on, no more failures than "
                f"requests, got {counts}"
            )
            raise InvalidRequest(message)
        if len(self.actions) != ACTION_DIM:
            message = f"version {self.version}: expected {ACTION_DIM} actions, got {self.actions}"
            raise InvalidRequest(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same states decided by both versions."""

    compared: int
    differing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is tolerated, and how sure a judgement must be."""

    min_requests: int = 300
    """Requests of each version before one is promoted. With none failed, the failing share is then
    below 1 % at 95 %."""
    error_tolerance: float = 0.005
    """More failing requests than stable, as a share. Half a percent is the default objective."""
    error_margin: float = 0.02
    """To promote, the share may at 95 % be no more than this above stable's; what 300 can show."""
    refused_tolerance: float = 0.005
    """As `error_tolerance`, for refused requests."""
    slow_ratio: float = 1.5
    """Times stable's p50 or p99. Below it lies what one busy node makes of equal versions."""
    max_mix_distance: float = 0.35
    """Total variation distance between the shares of actions, 0 to 1. A retrained policy moves a
    tenth or two; one that always does the same moves more than half."""
    max_disagreement: float = 0.5
    """Share of equal states on which the two may decide differently."""
    min_workloads: int = 3
    """Workloads of each version before one is promoted; one alone may be a strange one."""
    alike: int = 20
    """Intervals in a row that count as one: neighbours see the same load, and five minutes later it
    may be another."""
    violation_tolerance: float = 0.02
    """More violating intervals than stable, as a share."""
    violation_margin: float = 0.05
    """To promote, the share may at 95 % be no more than this above stable's."""
    churn_tolerance: float = 0.05
    """More changes taken back than stable, as a share of the intervals: one every five minutes."""
    churn_margin: float = 0.1
    """As `violation_margin`, for changes taken back."""
    rollback_odds: float = 0.0005
    """How often a bound may be wrong that rolls back, one-sided. Five steps of seven checks would
    go wrong once in 57 roll-outs if every tolerance were 0, and far more rarely as they are."""
    promote_odds: float = 0.05
    """How often the bound may be wrong that promotes, one-sided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's word and why."""

    check: str
    verdict: Verdict
    stable: str
    canary: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict over a canary."""

    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Of the findings that made the verdict."""
        return tuple(f"{f.check}: {f.reason}" for f in self.findings if f.verdict is self.verdict)
