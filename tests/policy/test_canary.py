"""The judge: bad versions go within 3,000 requests, good ones never, and for the stated reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.bounds import Histogram
from nimbusguard.policy.canary import (
    SERIOUSNESS,
    Arm,
    Comparison,
    Judgement,
    Limits,
    Verdict,
    judge,
)

BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
"""The buckets that the servers export."""

MIX = (0.04, 0.16, 0.55, 0.18, 0.07)
OURS = "sha256:" + "a" * 64
FOREIGN = "sha256:" + "b" * 64


def arm(
    version: str,
    requests: int,
    rng: np.random.Generator,
    *,
    error_share: float = 0.001,
    slower: float = 1.0,
    mix: tuple[float, ...] = MIX,
    fingerprint: str = OURS,
) -> Arm:
    """What the counters of a version show after some requests, drawn at random."""
    seconds = slower * rng.lognormal(np.log(0.002), 0.6, requests)
    counts = np.bincount(np.searchsorted(BOUNDS, seconds), minlength=len(BOUNDS) + 1)
    return Arm(
        version=version,
        fingerprint=fingerprint,
        requests=requests,
        errors=int(rng.binomial(requests, error_share)),
        latency=Histogram(BOUNDS, tuple(counts.tolist())),
        actions=tuple(rng.multinomial(requests, mix).tolist()),
    )


def drill(seed: int, requests: int = 3000, share: float = 0.25, **canary: object) -> Judgement:
    """Version 2 stable, version 3 on trial, over a number of requests in all."""
    rng = np.random.default_rng(seed)
    on_trial = int(requests * share)
    stable = arm("2", requests - on_trial, rng)
    return judge(stable, arm("3", on_trial, rng, **canary))  # type: ignore[arg-type]


BAD = {
    "5 % errors": ({"error_share": 0.05}, Verdict.ROLL_BACK, "errors"),
    "3x slower": ({"slower": 3.0}, Verdict.ROLL_BACK, "p50"),
    "always SCALE_UP_2": ({"mix": (0, 0, 0, 0, 1)}, Verdict.ROLL_BACK, "action mix"),
    "foreign fingerprint": ({"fingerprint": FOREIGN}, Verdict.REFUSE, "fingerprint"),
}


@pytest.mark.parametrize("seed", range(20))
def test_a_good_version_is_promoted_within_3000_requests(seed: int) -> None:
    """Twenty repetitions, none held and none rolled back."""
    slightly_other = (0.05, 0.14, 0.57, 0.16, 0.08)

    assert drill(seed, mix=slightly_other).verdict is Verdict.PROMOTE


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", BAD)
def test_a_bad_version_goes_within_3000_requests(name: str, seed: int) -> None:
    """Each fault by the check that is meant for it, in each of twenty repetitions."""
    canary, verdict, check = BAD[name]

    judgement = drill(seed, **canary)

    assert judgement.verdict is verdict
    assert any(reason.startswith(check) for reason in judgement.reasons)


def test_of_a_thousand_good_versions_none_is_rolled_back() -> None:
    """At every step of a roll-out, after 500, 1,500 and 3,000 requests: the stated odds hold."""
    verdicts = [
        drill(seed, requests, share).verdict
        for seed in range(90)
        for share in (0.01, 0.05, 0.25, 0.5)
        for requests in (500, 1500, 3000)
    ]

    assert len(verdicts) == 1080
    assert verdicts.count(Verdict.ROLL_BACK) == 0


def test_a_dead_version_is_seen_long_before_the_minimum() -> None:
    """The minimum is for promotion; thirty failures out of thirty need no more requests."""
    judgement = drill(0, share=0.01, error_share=1.0)

    assert judgement.verdict is Verdict.ROLL_BACK


def test_a_good_version_with_few_requests_is_held() -> None:
    """One percent of 3,000 is too little to promote on."""
    judgement = drill(0, share=0.01)

    assert judgement.verdict is Verdict.HOLD
    assert any("30 requests of the 300" in reason for reason in judgement.reasons)


def test_one_output_that_is_no_number_rolls_back() -> None:
    """It is a fault of the network, not of chance."""
    rng = np.random.default_rng(0)
    stable, canary = arm("2", 1000, rng), arm("3", 1000, rng)

    judgement = judge(stable, replace(canary, non_finite=1))

    assert judgement.verdict is Verdict.ROLL_BACK
    assert judgement.reasons[0].startswith("NaN")


def test_refused_requests_roll_back_like_errors() -> None:
    """A version that answers 503 serves nobody."""
    rng = np.random.default_rng(0)
    stable, canary = arm("2", 1000, rng), arm("3", 1000, rng)

    assert judge(stable, replace(canary, refused=60)).reasons[0].startswith("refused")


def test_disagreement_counts_where_somebody_measured_it() -> None:
    """Nine in ten equal states decided otherwise is not a better policy but another one."""
    rng = np.random.default_rng(0)
    stable, canary = arm("2", 1000, rng), arm("3", 1000, rng)

    same = judge(stable, canary, comparison=Comparison(compared=500, differing=100))
    other = judge(stable, canary, comparison=Comparison(compared=500, differing=450))

    assert same.verdict is Verdict.PROMOTE
    assert other.reasons[0].startswith("disagreement")


def test_a_small_difference_never_rolls_back_however_certain() -> None:
    """0.4 % more errors over a million requests are below the tolerance."""
    histogram = Histogram(BOUNDS, (0, 0, 0, 1_000_000, *(0,) * 11))
    stable = Arm(version="2", fingerprint=OURS, requests=1_000_000, errors=100, latency=histogram)
    canary = replace(stable, version="3", errors=4100)

    (finding,) = [f for f in judge(stable, canary).findings if f.check == "errors"]

    assert finding.verdict is Verdict.PROMOTE


def test_the_same_version_twice_is_no_comparison() -> None:
    """The caller asked for something else than there is."""
    rng = np.random.default_rng(0)

    with pytest.raises(InvalidRequest, match="two versions"):
        judge(arm("2", 10, rng), arm("2", 10, rng))


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": 11},
        {"refused": -1},
        {"actions": (1, 2, 3)},
        {"latency": Histogram((0.1, 0.1), (0, 0, 0))},
        {"latency": Histogram((0.1,), (1,))},
    ],
)
def test_counts_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    """More failures than requests, negative counts, the wrong number of actions or buckets."""
    good = arm("2", 10, np.random.default_rng(0))

    with pytest.raises(InvalidRequest):
        replace(good, **wrong)  # type: ignore[arg-type]


counts = st.integers(0, 5000)


@st.composite
def arms(draw: st.DrawFn, version: str) -> Arm:
    """Any counts that can be."""
    requests = draw(counts)
    return Arm(
        version=version,
        fingerprint=draw(st.sampled_from([OURS, FOREIGN])),
        requests=requests,
        errors=draw(st.integers(0, requests)),
        refused=draw(st.integers(0, requests)),
        non_finite=draw(st.integers(0, 2)),
        latency=Histogram(BOUNDS, tuple(draw(st.lists(counts, min_size=15, max_size=15)))),
        actions=tuple(draw(st.lists(counts, min_size=5, max_size=5))),
    )


@given(arms("2"), arms("3"))
def test_every_pair_of_counts_gets_a_verdict_with_reasons(stable: Arm, canary: Arm) -> None:
    """Total over its inputs; the verdict is the most serious finding's."""
    judgement = judge(stable, canary)

    serious = max(SERIOUSNESS.index(finding.verdict) for finding in judgement.findings)
    assert judgement.verdict is SERIOUSNESS[serious]
    assert judgement.reasons


@given(arms("2"), arms("3"), st.integers(1, 5000))
def test_more_errors_never_make_a_canary_look_better(
    stable: Arm, canary: Arm, additional: int
) -> None:
    """The errors' finding only becomes more serious."""
    worse = replace(canary, errors=min(canary.requests, canary.errors + additional))

    before, after = (
        next(f.verdict for f in judge(stable, arm_).findings if f.check == "errors")
        for arm_ in (canary, worse)
    )

    assert SERIOUSNESS.index(after) >= SERIOUSNESS.index(before)


@given(arms("2"), arms("3"))
def test_a_foreign_table_is_refused_whatever_else_was_counted(stable: Arm, canary: Arm) -> None:
    """No figure makes up for features that mean something else."""
    foreign = replace(canary, fingerprint=FOREIGN)
    ours = replace(stable, fingerprint=OURS)

    assert judge(ours, foreign).verdict is Verdict.REFUSE


@given(arms("2"), arms("3"))
def test_nothing_is_promoted_on_fewer_than_the_minimum(stable: Arm, canary: Arm) -> None:
    """Few requests may condemn a version but never recommend it."""
    limits = Limits(min_requests=6000)

    assert judge(stable, canary, limits).verdict is not Verdict.PROMOTE
