"""What a canary did to the workloads that it scaled, beside what stable did to its own. Pure.

Intervals of one workload are no independent samples: a busy quarter of an hour is sixty of them. So
`Limits.alike` neighbours count as one before any bound is taken.
"""

from __future__ import annotations

from nimbusguard.policy.bounds import surely_more
from nimbusguard.policy.canary_terms import Finding, Limits, Verdict, WorkloadFigures


def workload_findings(
    stable: WorkloadFigures | None, canary: WorkloadFigures | None, limits: Limits
) -> list[Finding]:
    """The checks of two arms that scaled workloads; none if neither did.

    Args:
        stable: Of the version that serves; None if it scaled none.
        canary: Of the one on trial; None if it scaled none, as in shadow.
        limits: What is tolerated.
    """
    if stable is None and canary is None:
        return []
    found = [_workloads(stable, canary, limits)]
    if stable is not None and canary is not None:
        found.append(
            _share(
                "violations",
                (stable.violating, stable.intervals),
                (canary.violating, canary.intervals),
                (limits.violation_tolerance, limits.violation_margin),
                limits,
            )
        )
        found.append(
            _share(
                "churn",
                (stable.taken_back, stable.intervals),
                (canary.taken_back, canary.intervals),
                (limits.churn_tolerance, limits.churn_margin),
                limits,
            )
        )
    return found


def _workloads(
    stable: WorkloadFigures | None, canary: WorkloadFigures | None, limits: Limits
) -> Finding:
    counts = [0 if arm is None else arm.workloads for arm in (stable, canary)]
    enough = min(counts) >= limits.min_workloads
    return Finding(
        check="workloads",
        verdict=Verdict.PROMOTE if enough else Verdict.HOLD,
        stable=f"{counts[0]}",
        canary=f"{counts[1]}",
        reason=f"{min(counts)} workloads of the {limits.min_workloads} that each version needs",
    )


def _share(
    check: str,
    stable: tuple[int, int],
    canary: tuple[int, int],
    tolerance_and_margin: tuple[float, float],
    limits: Limits,
) -> Finding:
    tolerance, margin = tolerance_and_margin
    one, other = _thinned(canary, limits.alike), _thinned(stable, limits.alike)
    at_least = surely_more(one, other, limits.rollback_odds)
    at_most = -surely_more(other, one, limits.promote_odds)
    if at_least > tolerance:
        verdict, reason = Verdict.ROLL_BACK, f"at least {at_least:.1%} of intervals more"
    elif at_most <= margin:
        verdict, reason = Verdict.PROMOTE, f"at most {at_most:.1%} of intervals more"
    else:
        verdict, reason = Verdict.HOLD, f"may be {at_most:.1%} of intervals more"
    return Finding(
        check=check,
        verdict=verdict,
        stable=_percent(stable),
        canary=_percent(canary),
        reason=reason,
    )


def _thinned(counts: tuple[int, int], alike: int) -> tuple[int, int]:
    """Hits and total as if only one interval of so many in a row had been looked at."""
    hits, total = counts
    return round(hits / alike), max(round(total / alike), 1 if total else 0)


def _percent(counts: tuple[int, int]) -> str:
    hits, total = counts
    return f"{hits / total:.2%}" if total else "none"
