"""The circuit breaker: a table, walked by hand and at random."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.client.breaker import (
    TABLE,
    Breaker,
    BreakerSettings,
    BreakerState,
    Event,
    admit,
    settle,
)
from nimbusguard.contract.errors import InvalidRequest

SETTINGS = BreakerSettings(failure_limit=3, cool_down_s=10.0)


def failed(breaker: Breaker, now_s: float) -> Breaker:
    return settle(SETTINGS, breaker, succeeded=False, now_s=now_s)


def opened(now_s: float) -> Breaker:
    breaker = Breaker()
    for _ in range(3):
        breaker = failed(breaker, now_s)
    return breaker


def test_the_table_says_what_happens_in_every_case() -> None:
    """Each state meets each outcome; only an open breaker cools down."""
    outcomes = {Event.SUCCEEDED, Event.FAILED, Event.FAILED_AT_LIMIT}
    expected = {(state, event) for state in BreakerState for event in outcomes}
    expected.add((BreakerState.OPEN, Event.COOLED_DOWN))
    # One failure below the limit while HALF_OPEN is as good as one at it.
    assert set(TABLE) == expected


def test_failures_in_a_row_open_it() -> None:
    """Two are let pass, the third is not."""
    breaker = failed(failed(Breaker(), 0.0), 1.0)
    assert breaker.state is BreakerState.CLOSED

    assert failed(breaker, 2.0).state is BreakerState.OPEN


def test_a_success_in_between_starts_the_count_anew() -> None:
    """Only failures without a success between them count."""
    breaker = failed(failed(Breaker(), 0.0), 1.0)
    breaker = settle(SETTINGS, breaker, succeeded=True, now_s=2.0)

    assert failed(failed(breaker, 3.0), 4.0).state is BreakerState.CLOSED


def test_an_open_breaker_admits_nobody_until_it_has_cooled_down() -> None:
    """Then it admits one."""
    breaker = opened(100.0)

    assert admit(SETTINGS, breaker, 109.9) == (breaker, False)
    breaker, admitted = admit(SETTINGS, breaker, 110.0)
    assert admitted
    assert breaker.state is BreakerState.HALF_OPEN


def test_half_open_admits_one_at_a_time() -> None:
    """The second waits for the outcome of the first."""
    breaker, _ = admit(SETTINGS, opened(0.0), 10.0)

    assert admit(SETTINGS, breaker, 11.0)[1] is False


def test_the_outcome_of_the_probe_decides() -> None:
    """Success closes, failure opens for another cool-down."""
    breaker, _ = admit(SETTINGS, opened(0.0), 10.0)

    assert settle(SETTINGS, breaker, succeeded=True, now_s=11.0) == Breaker()
    again = failed(breaker, 11.0)
    assert again.state is BreakerState.OPEN
    assert admit(SETTINGS, again, 20.9)[1] is False
    assert admit(SETTINGS, again, 21.0)[1] is True


def test_a_probe_of_which_nothing_is_heard_does_not_lock_it() -> None:
    """A caller may be cancelled; after a cool-down the next one asks."""
    breaker, _ = admit(SETTINGS, opened(0.0), 10.0)

    breaker, admitted = admit(SETTINGS, breaker, 20.0)
    assert admitted
    assert admit(SETTINGS, breaker, 20.1)[1] is False


def test_late_answers_do_not_move_an_open_breaker() -> None:
    """They belong to questions that were asked before it opened."""
    breaker = opened(0.0)

    for succeeded in (True, False):
        late = settle(SETTINGS, breaker, succeeded=succeeded, now_s=5.0)
        assert late.state is BreakerState.OPEN
        assert late.since_s == 0.0


STEPS = st.lists(
    st.tuples(st.floats(0.0, 8.0), st.sampled_from(["ask", "good", "bad"])), max_size=60
)


@given(STEPS, st.integers(1, 5), st.floats(0.0, 20.0))
def test_whatever_happens_it_keeps_its_promises(
    steps: list[tuple[float, str]], limit: int, cool_down: float
) -> None:
    """Closed admits all, open nobody before it cooled, half-open one; it never stays shut."""
    settings = BreakerSettings(failure_limit=limit, cool_down_s=cool_down)
    breaker, now, in_a_row = Breaker(), 0.0, 0

    for pause, what in steps:
        now += pause
        before = breaker
        if what == "ask":
            breaker, admitted = admit(settings, breaker, now)
            cooled = now - before.since_s >= cool_down
            if before.state is BreakerState.CLOSED:
                assert admitted
            elif before.state is BreakerState.OPEN:
                assert admitted is cooled
            else:
                assert admitted is (cooled or not before.probing)
        else:
            breaker = settle(settings, breaker, succeeded=what == "good", now_s=now)
            if before.state is BreakerState.CLOSED:
                in_a_row = in_a_row + 1 if what == "bad" else 0
                assert (breaker.state is BreakerState.OPEN) is (in_a_row == limit)
                in_a_row %= limit
            if before.state is BreakerState.HALF_OPEN:
                expected = BreakerState.CLOSED if what == "good" else BreakerState.OPEN
                assert breaker.state is expected

    assert admit(settings, breaker, now + cool_down + 1.0)[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("failure_limit", 0), ("cool_down_s", -1.0), ("cool_down_s", float("inf"))],
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(InvalidRequest, match=f"{field}: expected"):
        BreakerSettings(**{field: value})  # type: ignore[arg-type]
