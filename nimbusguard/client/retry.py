"""How long to wait before asking again: pure arithmetic, no clock and no chance of its own.

The caller passes in the chance and the time that is left, so a test can name every delay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nimbusguard.contract.errors import InvalidRequest

MAX_ATTEMPTS = 20
"""More sends than this for one question help nobody, and keep `factor ** retry` finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to ask again, and how soon."""

    attempts: int = 4
    """Sends in all, the first included. Four cover a pod that is replaced, within the deadline."""
    first_delay_s: float = 0.05
    """Seconds before the first retry, before jitter. A connect error takes about a millisecond, so
    this is long enough for the next endpoint to be chosen and short against the deadline."""
    factor: float = 2.0
    """Growth of the delay from one retry to the next; also the width of the jitter."""
    max_delay_s: float = 1.0
    """Longest own delay in seconds. `Retry-After` may ask for more."""
    attempt_floor_s: float = 0.05
    """Seconds that must be left for the attempt itself, or it is not made."""

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            message = f"attempts: expected 1 to {MAX_ATTEMPTS}, got {self.attempts}"
            raise InvalidRequest(message)
        if not 1.0 < self.factor <= 10.0:
            message = f"factor: expected more than 1 and at most 10, got {self.factor}"
            raise InvalidRequest(message)
        for name in ("first_delay_s", "max_delay_s", "attempt_floor_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                message = f"{name}: expected a finite number of seconds from 0, got {value}"
                raise InvalidRequest(message)


def backoff_s(policy: RetryPolicy, retry: int, chance: float) -> float:
    """Seconds to wait before one retry.

    The jitter spreads retry n over the whole gap between its own base delay and that of retry
    n + 1. Callers that failed together therefore do not return together, and still no delay is
    shorter than the one before it.

    Args:
        policy: The growth and the cap.
        retry: 0 for the first retry, less than `policy.attempts`.
        chance: Uniform in [0, 1).
    """
    base = policy.first_delay_s * policy.factor**retry
    return min(policy.max_delay_s, base * (1.0 + (policy.factor - 1.0) * chance))


def next_delay_s(
    policy: RetryPolicy,
    *,
    retry: int,
    chance: float,
    remaining_s: float,
    retry_after_s: float = 0.0,
) -> float | None:
    """Seconds to wait before the next attempt, or None if there shall be none.

    Args:
        policy: The growth, the cap and the number of attempts.
        retry: 0 before the first retry.
        chance: Uniform in [0, 1).
        remaining_s: Seconds until the deadline.
        retry_after_s: What the server asked for; 0 if it asked for nothing. It is honoured in
            full, and jitter comes on top: many callers hear the same number.

    Returns:
        The delay, which leaves at least `attempt_floor_s` before the deadline; None when the
        attempts are used up or the delay does not fit.
    """
    if retry + 1 >= policy.attempts:
        return None
    delay = backoff_s(policy, retry, chance)
    if retry_after_s > 0.0:
        delay = max(delay, retry_after_s + policy.first_delay_s * chance)
    return delay if delay + policy.attempt_floor_s <= remaining_s else None
