"""Is the new version fit to serve? A pure function over counts, with stated odds.

Two versions served side by side give two sets of counts. Each check compares one property and says
promote, hold, roll back or refuse; the most serious word wins. The statistics, one for all:

* roll back only on evidence: even at the exact bounds that are wrong 1 time in 2,000
  (`rollback_odds`) the canary must be worse by more than the tolerance. The bounds take the size
  of the sample into account, so a blatant fault is seen early and a good version is practically
  never taken for a bad one;
* promote only on enough: `min_requests` on both sides, and no check that says otherwise;
* hold means: more requests, please.

Limits are about what hurts, not about what is measurable: a difference below its tolerance never
rolls anything back, however certain it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nimbusguard.contract.actions import ACTION_DIM, ACTION_NAMES
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.bounds import (
    Histogram,
    checked,
    lower_bound,
    quantile,
    quantile_bounds,
    upper_bound,
)


class Verdict(StrEnum):
    """What to do with the canary, the more serious the later."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll back"
    REFUSE = "refuse"


SERIOUSNESS = tuple(Verdict)


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


def judge(
    stable: Arm, canary: Arm, limits: Limits | None = None, comparison: Comparison | None = None
) -> Judgement:
    """Compare a canary with the stable version.

    Args:
        stable: Counts of the version that serves.
        canary: Counts of the one on trial, over the same time.
        limits: What is tolerated.
        comparison: Equal states decided by both, where somebody asked them.

    Raises:
        InvalidRequest: Both arms are one version.
    """
    if stable.version == canary.version:
        message = f"expected two versions to compare, got {stable.version} twice"
        raise InvalidRequest(message)
    rules = Limits() if limits is None else limits
    findings = [
        _fingerprint(stable, canary),
        _samples(stable, canary, rules),
        _non_finite(stable, canary),
        _failures("errors", stable, canary, rules),
        _failures("refused", stable, canary, rules),
        _latency("p50", 0.5, stable, canary, rules),
        _latency("p99", 0.99, stable, canary, rules),
        _action_mix(stable, canary, rules),
    ]
    if comparison is not None:
        findings.append(_disagreement(comparison, rules))
    verdict = max((finding.verdict for finding in findings), key=SERIOUSNESS.index)
    return Judgement(verdict=verdict, findings=tuple(findings))


def _fingerprint(stable: Arm, canary: Arm) -> Finding:
    same = stable.fingerprint == canary.fingerprint
    return Finding(
        check="fingerprint",
        verdict=Verdict.PROMOTE if same else Verdict.REFUSE,
        stable=_short(stable.fingerprint),
        canary=_short(canary.fingerprint),
        reason="the same feature table" if same else "trained with another feature table",
    )


def _samples(stable: Arm, canary: Arm, limits: Limits) -> Finding:
    fewest = min(stable.requests, canary.requests)
    enough = fewest >= limits.min_requests
    return Finding(
        check="samples",
        verdict=Verdict.PROMOTE if enough else Verdict.HOLD,
        stable=f"{stable.requests}",
        canary=f"{canary.requests}",
        reason=f"{fewest} requests of the {limits.min_requests} that each version needs",
    )


def _non_finite(stable: Arm, canary: Arm) -> Finding:
    return Finding(
        check="NaN",
        verdict=Verdict.ROLL_BACK if canary.non_finite else Verdict.PROMOTE,
        stable=f"{stable.non_finite}",
        canary=f"{canary.non_finite}",
        reason=f"{canary.non_finite} outputs were no numbers; one is proof of a fault",
    )


def _failures(kind: str, stable: Arm, canary: Arm, limits: Limits) -> Finding:
    """Failing requests of one kind: `errors` or `refused`."""
    hits, base_hits, tolerance = (
        (canary.errors, stable.errors, limits.error_tolerance)
        if kind == "errors"
        else (canary.refused, stable.refused, limits.refused_tolerance)
    )
    canary_hits, stable_hits = (hits, canary.requests), (base_hits, stable.requests)
    at_least = _surely_more(canary_hits, stable_hits, limits.rollback_odds)
    at_most = -_surely_more(stable_hits, canary_hits, limits.promote_odds)
    if at_least > tolerance:
        verdict, reason = Verdict.ROLL_BACK, f"at least {at_least:.2%} more than stable"
    elif at_most <= limits.error_margin:
        verdict, reason = Verdict.PROMOTE, f"at most {at_most:.2%} more than stable"
    else:
        verdict, reason = Verdict.HOLD, f"may be {at_most:.2%} more than stable"
    return Finding(
        check=kind,
        verdict=verdict,
        stable=_share(base_hits, stable.requests),
        canary=_share(hits, canary.requests),
        reason=reason,
    )


def _latency(name: str, share: float, stable: Arm, canary: Arm, limits: Limits) -> Finding:
    """One quantile: rolled back if surely slower, held if it looks slower."""
    if not stable.latency.total or not canary.latency.total:
        return Finding(
            check=name, verdict=Verdict.HOLD, stable="", canary="", reason="nothing was measured"
        )
    at_most = quantile_bounds(stable.latency, share, limits.rollback_odds).high
    at_least = quantile_bounds(canary.latency, share, limits.rollback_odds).low
    base, value = quantile(stable.latency, share), quantile(canary.latency, share)
    if at_least > limits.slow_ratio * at_most:
        verdict = Verdict.ROLL_BACK
        reason = f"surely more than {limits.slow_ratio:g} times stable's"
    elif value > limits.slow_ratio * at_most:
        verdict = Verdict.HOLD
        reason = f"looks like more than {limits.slow_ratio:g} times stable's"
    else:
        verdict, reason = Verdict.PROMOTE, f"within {limits.slow_ratio:g} times stable's"
    return Finding(
        check=name,
        verdict=verdict,
        stable=f"{base * 1e3:.2f} ms",
        canary=f"{value * 1e3:.2f} ms",
        reason=reason,
    )


def _action_mix(stable: Arm, canary: Arm, limits: Limits) -> Finding:
    """Half the sum of absolute differences of shares; its lower bound action by action."""
    total, base_total = sum(canary.actions), sum(stable.actions)
    pairs = list(zip(canary.actions, stable.actions, strict=True))
    at_least = sum(
        max(0.0, _surely_more((hits, total), (base, base_total), limits.rollback_odds))
        for hits, base in pairs
    )
    if not total or not base_total:
        verdict, reason = Verdict.HOLD, "no decisions of both versions were counted"
    else:
        distance = sum(abs(hits / total - base / base_total) for hits, base in pairs) / 2
        if at_least > limits.max_mix_distance:
            verdict, reason = Verdict.ROLL_BACK, f"at least {at_least:.0%} decided otherwise"
        elif distance > limits.max_mix_distance:
            verdict, reason = Verdict.HOLD, f"looks {distance:.0%} apart"
        else:
            verdict, reason = Verdict.PROMOTE, f"{distance:.0%} apart"
    return Finding(
        check="action mix",
        verdict=verdict,
        stable=_commonest(stable.actions),
        canary=_commonest(canary.actions),
        reason=reason,
    )


def _disagreement(comparison: Comparison, limits: Limits) -> Finding:
    at_least = lower_bound(comparison.differing, comparison.compared, limits.rollback_odds)
    if at_least > limits.max_disagreement:
        verdict, reason = Verdict.ROLL_BACK, f"at least {at_least:.0%} of equal states"
    elif comparison.differing > limits.max_disagreement * comparison.compared:
        verdict, reason = Verdict.HOLD, f"looks more than {limits.max_disagreement:.0%}"
    else:
        verdict, reason = Verdict.PROMOTE, f"at most {limits.max_disagreement:.0%} tolerated"
    return Finding(
        check="disagreement",
        verdict=verdict,
        stable="",
        canary=_share(comparison.differing, comparison.compared),
        reason=reason,
    )


def _surely_more(one: tuple[int, int], other: tuple[int, int], odds: float) -> float:
    """How much larger the first share is at least; negative if it may be smaller."""
    return lower_bound(*one, odds) - upper_bound(*other, odds)


def _share(hits: int, total: int) -> str:
    return f"{hits / total:.2%}" if total else "none"


def _commonest(actions: tuple[int, ...]) -> str:
    total = sum(actions)
    if not total:
        return "none"
    index = max(range(ACTION_DIM), key=actions.__getitem__)
    return f"{ACTION_NAMES[index]} {actions[index] / total:.0%}"


def _short(fingerprint: str) -> str:
    return fingerprint[:15]
