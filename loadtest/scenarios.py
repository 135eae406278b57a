"""Who asks how much for how long, and what must then hold. Pure; locust is not imported here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of time with one number of users.

    Attributes:
        seconds: How long.
        users: How many ask at once.
    """

    seconds: float
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What must hold over the whole run.

    Attributes:
        max_failed_ratio: Requests without a decision, 503 included.
        max_p99_ms: 99th percentile of the time to an answer.
        min_rate: Requests per second on average.
    """

    max_failed_ratio: float
    max_p99_ms: float
    min_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One load test.

    Attributes:
        name: As on the command line.
        question: What its result answers.
        stages: In order.
        pace_s: Seconds from one request of a user to its next; 0 asks as fast as answers come.
        thresholds: What must hold.
    """

    name: str
    question: str
    stages: tuple[Stage, ...]
    pace_s: float
    thresholds: Thresholds

    @property
    def seconds(self) -> float:
        """The whole duration."""
        return sum(stage.seconds for stage in self.stages)

    def lasting(self, seconds: float) -> Scenario:
        """The same scenario, every stage stretched or shortened alike."""
        factor = seconds / self.seconds
        stages = tuple(replace(stage, seconds=stage.seconds * factor) for stage in self.stages)
        return replace(self, stages=stages)

    def users_at(self, elapsed_s: float) -> int | None:
        """The users of the stage that this moment lies in; None once it is over."""
        ends = 0.0
        for stage in self.stages:
            ends += stage.seconds
            if elapsed_s < ends:
                return stage.users
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured."""

    requests: int
    failed: int
    p99_ms: float
    seconds: float


def missed(result: Result, thresholds: Thresholds) -> list[str]:
    """Every threshold that does not hold, with both numbers; empty if all do."""
    if not result.requests:
        return ["no request was answered"]
    failed_ratio = result.failed / result.requests
    rate = result.requests / result.seconds
    found = []
    if failed_ratio > thresholds.max_failed_ratio:
        found.append(
            f"failed: expected at most {thresholds.max_failed_ratio:.2%}, got {failed_ratio:.2%}"
        )
    if result.p99_ms > thresholds.max_p99_ms:
        found.append(f"p99: expected at most {thresholds.max_p99_ms:g} ms, got {result.p99_ms:g}")
    if rate < thresholds.min_rate:
        found.append(f"rate: expected {thresholds.min_rate:g} requests/s or more, got {rate:.0f}")
    return found


# The numbers suit one pod of each kind with one core; every one is an option of the command.
SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="steady",
            question="Does it answer an ordinary load without a failure?",
            stages=(Stage(seconds=60, users=50),),
            pace_s=0.25,
            thresholds=Thresholds(max_failed_ratio=0.0, max_p99_ms=100, min_rate=150),
        ),
        Scenario(
            name="spike",
            question="Does a tenfold rush pass without a lasting trace?",
            stages=(
                Stage(seconds=30, users=20),
                Stage(seconds=30, users=200),
                Stage(seconds=60, users=20),
            ),
            pace_s=0.25,
            thresholds=Thresholds(max_failed_ratio=0.001, max_p99_ms=250, min_rate=150),
        ),
        Scenario(
            name="ramp",
            question="Where does the rate stop growing, and what then happens to the rest?",
            stages=tuple(Stage(seconds=20, users=users) for users in (5, 10, 20, 40, 80, 160, 320)),
            pace_s=0.0,
            thresholds=Thresholds(max_failed_ratio=0.01, max_p99_ms=1000, min_rate=300),
        ),
        Scenario(
            name="soak",
            question="Does anything grow, leak or slow down over an hour?",
            stages=(Stage(seconds=3600, users=50),),
            pace_s=0.25,
            thresholds=Thresholds(max_failed_ratio=0.0, max_p99_ms=100, min_rate=150),
        ),
        Scenario(
            name="canary",
            question="Who answers how much while a version is rolled out, and does anyone fail?",
            stages=(Stage(seconds=300, users=50),),
            pace_s=0.25,
            thresholds=Thresholds(max_failed_ratio=0.0, max_p99_ms=150, min_rate=150),
        ),
    )
}
