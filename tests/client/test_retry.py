"""Backoff: pure arithmetic with a cap, a deadline and the server's own wish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.client.retry import MAX_ATTEMPTS, RetryPolicy, backoff_s, next_delay_s
from nimbusguard.contract.errors import InvalidRequest

CHANCE = st.floats(0.0, 1.0, exclude_max=True)
SECONDS = st.floats(0.0, 60.0)
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, MAX_ATTEMPTS),
    first_delay_s=st.floats(0.0, 5.0),
    factor=st.floats(1.001, 10.0),
    max_delay_s=SECONDS,
    attempt_floor_s=st.floats(0.0, 1.0),
)


@given(POLICIES, st.integers(0, MAX_ATTEMPTS - 2), CHANCE, CHANCE)
def test_a_delay_is_never_shorter_than_the_one_before_it(
    policy: RetryPolicy, retry: int, first: float, second: float
) -> None:
    """Whatever the jitter, retry n + 1 waits at least as long as retry n (up to rounding)."""
    earlier, later = backoff_s(policy, retry, first), backoff_s(policy, retry + 1, second)

    assert later >= earlier * (1.0 - 1e-12)


@given(POLICIES, st.integers(0, MAX_ATTEMPTS - 1), CHANCE)
def test_a_delay_is_capped(policy: RetryPolicy, retry: int, chance: float) -> None:
    """No own delay is negative or above `max_delay_s`."""
    assert 0.0 <= backoff_s(policy, retry, chance) <= policy.max_delay_s


@given(POLICIES, st.integers(0, MAX_ATTEMPTS - 1), CHANCE, SECONDS, SECONDS)
def test_a_delay_fits_the_deadline_and_honours_the_server(
    policy: RetryPolicy, retry: int, chance: float, remaining: float, retry_after: float
) -> None:
    """A delay leaves time for the attempt and is no shorter than `Retry-After`."""
    delay = next_delay_s(
        policy, retry=retry, chance=chance, remaining_s=remaining, retry_after_s=retry_after
    )

    if delay is not None:
        assert retry_after <= delay <= remaining - policy.attempt_floor_s + 1e-9
        assert retry + 1 < policy.attempts


@given(POLICIES, CHANCE)
def test_the_last_attempt_is_followed_by_none(policy: RetryPolicy, chance: float) -> None:
    """Attempts are counted from the first send."""
    last = policy.attempts - 1

    assert next_delay_s(policy, retry=last, chance=chance, remaining_s=1e9) is None


def test_jitter_spreads_callers_that_failed_together() -> None:
    """Equal failures with different chance wait differently, over a whole factor."""
    policy = RetryPolicy(first_delay_s=0.1, factor=2.0)

    delays = [backoff_s(policy, 0, chance) for chance in (0.0, 0.25, 0.5, 0.75)]

    assert delays == pytest.approx([0.1, 0.125, 0.15, 0.175])


def test_callers_told_the_same_retry_after_do_not_return_together() -> None:
    """Jitter comes on top of `Retry-After`."""
    policy = RetryPolicy()

    first, second = (
        next_delay_s(policy, retry=0, chance=chance, remaining_s=10.0, retry_after_s=2.0)
        for chance in (0.1, 0.9)
    )

    assert first is not None
    assert second is not None
    assert 2.0 < first < second


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0),
        ("attempts", MAX_ATTEMPTS + 1),
        ("factor", 1.0),
        ("factor", 11.0),
        ("first_delay_s", -0.1),
        ("max_delay_s", float("inf")),
        ("attempt_floor_s", float("nan")),
    ],
)
def test_a_policy_out_of_range_is_refused(field: str, value: float) -> None:
    """The message names the field and the value."""
    with pytest.raises(InvalidRequest, match=rf"{field}: expected .* got {value}"):
        RetryPolicy(**{field: value})  # type: ignore[arg-type]
