"""The circuit breaker as a state table: who may ask, and what an outcome changes.

::

    state       succeeded    failed                    cooled down
    CLOSED      CLOSED       CLOSED, at the limit OPEN  -
    OPEN        OPEN         OPEN                       HALF_OPEN
    HALF_OPEN   CLOSED       OPEN                       -

While CLOSED everybody asks. While OPEN nobody does, so that a caller's deadline is spent on its
fallback instead. While HALF_OPEN one asks at a time, and its outcome decides. Pure: the breaker is
a value that goes in and comes out, and `now_s` is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from nimbusguard.contract.errors import InvalidRequest


class BreakerState(Enum):
    """What the breaker does with the next question."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(Enum):
    """What moves the breaker."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FAILED_AT_LIMIT = "failed_at_limit"
    COOLED_DOWN = "cooled_down"


TABLE: Final[Mapping[tuple[BreakerState, Event], BreakerState]] = {
    (BreakerState.CLOSED, Event.SUCCEEDED): BreakerState.CLOSED,
    (BreakerState.CLOSED, Event.FAILED): BreakerState.CLOSED,
    (BreakerState.CLOSED, Event.FAILED_AT_LIMIT): BreakerState.OPEN,
    # Answers to questions that were asked before it opened; they say nothing about now.
    (BreakerState.OPEN, Event.SUCCEEDED): BreakerState.OPEN,
    (BreakerState.OPEN, Event.FAILED): BreakerState.OPEN,
    (BreakerState.OPEN, Event.FAILED_AT_LIMIT): BreakerState.OPEN,
    (BreakerState.OPEN, Event.COOLED_DOWN): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, Event.SUCCEEDED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, Event.FAILED): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, Event.FAILED_AT_LIMIT): BreakerState.OPEN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When to stop asking, and for how long."""

    failure_limit: int = 3
    """Failures in a row that open the breaker. Each is already a call with its own retries, so
    three are no accident."""
    cool_down_s: float = 10.0
    """Seconds without a question once open. Shorter than the 15 s control loop, so every interval
    after the first asks once and a server that is back is used again at once. Also the time after
    which a question of which nothing was heard no longer keeps others from asking."""

    def __post_init__(self) -> None:
        if self.failure_limit < 1:
            message = f"failure_limit: expected at least 1, got {self.failure_limit}"
            raise InvalidRequest(message)
        if not (math.isfinite(self.cool_down_s) and self.cool_down_s >= 0.0):
            message = f"cool_down_s: expected a finite number from 0, got {self.cool_down_s}"
            raise InvalidRequest(message)


class Breaker(NamedTuple):
    """The breaker at one moment."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """Failures in a row while CLOSED."""
    since_s: float = 0.0
    """When it opened or, while HALF_OPEN, when the last question was admitted."""
    probing: bool = False
    """Whether that question is still unanswered."""


def admit(settings: BreakerSettings, breaker: Breaker, now_s: float) -> tuple[Breaker, bool]:
    """Whether a question may be asked now.

    Args:
        settings: Limit and cool-down.
        breaker: What the last call returned.
        now_s: Seconds on a clock that does not run backwards.

    Returns:
        The breaker for the next call, and the answer.
    """
    if breaker.state is BreakerState.CLOSED:
        return breaker, True
    waited = now_s - breaker.since_s >= settings.cool_down_s
    if breaker.state is BreakerState.OPEN:
        if not waited:
            return breaker, False
        breaker = _moved(breaker, Event.COOLED_DOWN)
    elif breaker.probing and not waited:
        return breaker, False
    return breaker._replace(since_s=now_s, probing=True), True


def settle(
    settings: BreakerSettings, breaker: Breaker, *, succeeded: bool, now_s: float
) -> Breaker:
    """Take note of how a question ended.

    Args:
        settings: Limit and cool-down.
        breaker: What the last call returned.
        succeeded: Whether the server did its part; a refusal of a bad request is a success.
        now_s: As for `admit`.
    """
    failures = 0 if succeeded else breaker.failures + 1
    event = Event.SUCCEEDED if succeeded else Event.FAILED
    if failures >= settings.failure_limit:
        event = Event.FAILED_AT_LIMIT
    state = TABLE[breaker.state, event]
    if state is BreakerState.CLOSED:
        return Breaker(failures=failures)
    opened = state is not breaker.state
    return breaker._replace(
        state=state,
        failures=0,
        since_s=now_s if opened else breaker.since_s,
        probing=False,
    )


def _moved(breaker: Breaker, event: Event) -> Breaker:
    return breaker._replace(state=TABLE[breaker.state, event])
