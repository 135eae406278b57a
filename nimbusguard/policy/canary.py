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

from nimbusguard.contract.actions import ACTION_DIM, ACTION_NAMES
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.bounds import lower_bound, quantile, quantile_bounds, surely_more
from nimbusguard.policy.canary_terms import (
    SERIOUSNESS,
    Arm,
    Comparison,
    Finding,
    Judgement,
    Limits,
    Verdict,
    WorkloadFigures,
)
from nimbusguard.policy.canary_workloads import workload_findings

__all__ = [
    "SERIOUSNESS",
    "Arm",
    "Comparison",
    "Finding",
    "Judgement",
    "Limits",
    "Verdict",
    "WorkloadFigures",
    "judge",
]


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
    findings += workload_findings(stable.workloads, canary.workloads, rules)
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
    at_least = surely_more(canary_hits, stable_hits, limits.rollback_odds)
    at_most = -surely_more(stable_hits, canary_hits, limits.promote_odds)
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
        max(0.0, surely_more((hits, total), (base, base_total), limits.rollback_odds))
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
