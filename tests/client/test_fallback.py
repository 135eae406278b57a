"""The chain of last resorts: whatever fails, each workload gets a decision in time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbusguard.client.asked import NOT_ASKED, Ended
from nimbusguard.client.breaker import BreakerState
from nimbusguard.client.decision import Decision
from nimbusguard.client.fallback import (
    DecisionChain,
    FallbackSettings,
    Recommendation,
    Source,
)
from nimbusguard.client.hpa_rule import hpa_action
from nimbusguard.client.instances import NamedMetrics
from nimbusguard.client.local_model import LocalModel
from nimbusguard.client.observation import Observation
from nimbusguard.contract import errors
from nimbusguard.contract.actions import ScaleAction
from tests.client.harness import FakeTime, local_model, seen

MODEL = local_model()
UP = local_model((0.0, 0.0, 0.0, 9.0, 0.0))


class FakeKserve:
    """Answers as the given model, or does what a test says."""

    def __init__(self, model: LocalModel = UP) -> None:
        self.model = model
        self.trouble: Exception | None = None
        self.change: Callable[[list[Decision]], list[Decision]] = lambda decisions: decisions
        self.asked: list[int] = []

    async def decide(
        self, instances: Sequence[NamedMetrics], *, deadline_s: float | None = None
    ) -> list[Decision]:
        self.asked.append(len(instances))
        if self.trouble is not None:
            raise self.trouble
        rows = [
            Observation(
                values=tuple(float(value) for value in instance.metrics.values()),  # type: ignore[arg-type]
                current_replicas=instance.replicas.current_replicas or 0,
                min_replicas=instance.replicas.min_replicas or 0,
                max_replicas=instance.replicas.max_replicas or 0,
            )
            for instance in instances
        ]
        return self.change(self.model.decide(rows))


class Bench:
    """A chain with everything around it under the test's control."""

    def __init__(self, **settings: Any) -> None:
        self.time = FakeTime()
        self.kserve = FakeKserve()
        self.local: LocalModel | None = MODEL
        self.refusal: str | None = None
        self.chain = DecisionChain(
            FallbackSettings(**settings),
            clock=self.time.clock,
            kserve=self.kserve,
            local_model=lambda: self.local,
            refuse=lambda decision: self.refusal,
        )

    def decide(self, *observations: Observation) -> list[Recommendation]:
        return asyncio.run(self.chain.decide(observations))


def sources(recommendations: Sequence[Recommendation]) -> list[Source]:
    return [recommendation.source for recommendation in recommendations]


def test_kserve_answers_while_it_can() -> None:
    """With the decision itself, and nobody's refusal."""
    (answer,) = Bench().decide(seen())

    assert answer.source is Source.KSERVE
    assert answer.target_replicas == 5
    assert answer.decision is not None
    assert answer.refusals == {}


FAILURES = [
    errors.PredictorUnavailable("no route"),
    errors.Unavailable("loading"),
    errors.Overloaded("full"),
    errors.IncompatibleModel("foreign"),
    errors.DeadlineExceeded("late"),
    errors.NonFiniteOutput("null"),
    errors.NotFound("no model"),
    errors.InvalidRequest("bad row"),
]
ENDS = [
    Ended.FAILED,
    Ended.REFUSED,
    Ended.REFUSED,
    Ended.REFUSED,
    Ended.FAILED,
    Ended.NON_FINITE,
    Ended.FAILED,
    Ended.REFUSED_QUESTION,
]


@pytest.mark.parametrize(
    ("trouble", "ended"),
    list(zip(FAILURES, ENDS, strict=True)),
    ids=[type(error).__name__ for error in FAILURES],
)
def test_each_failure_of_kserve_has_its_name(trouble: Exception, ended: Ended) -> None:
    """A canary is judged by them; the answer of the local model hides none."""
    bench = Bench()
    bench.kserve.trouble = trouble

    (answer,) = bench.decide(seen())

    assert answer.asked.ended is ended
    assert answer.asked.seconds == 0.0


def test_who_was_not_asked_did_not_fail() -> None:
    """Incomplete metrics, an open breaker, and a version that is not trusted."""
    bench = Bench()
    incomplete, complete = bench.decide(seen(cpu_utilization=float("nan")), seen())
    bench.refusal = "version 2 is not validated yet"
    (untrusted,) = bench.decide(seen())
    bench.kserve.trouble = errors.Unavailable("down")
    for _ in range(3):
        bench.decide(seen())
    (spared,) = bench.decide(seen())

    assert incomplete.asked == NOT_ASKED
    assert complete.asked.ended is Ended.ANSWERED
    assert untrusted.asked.ended is Ended.UNTRUSTED
    assert spared.asked == NOT_ASKED


@pytest.mark.parametrize("trouble", FAILURES, ids=lambda error: type(error).__name__)
def test_every_failure_of_kserve_is_answered_by_the_local_model(trouble: Exception) -> None:
    """The refusal is kept in KServe's own words."""
    bench = Bench()
    bench.kserve.trouble = trouble

    (answer,) = bench.decide(seen())

    assert answer.source is Source.LOCAL_MODEL
    assert answer.refusals == {Source.KSERVE: str(trouble)}
    assert answer.decision is not None
    assert answer.decision.model_version == "2"


def test_without_a_local_model_the_hpa_rule_answers() -> None:
    """90 % CPU on 4 replicas over a target of 70 % asks for 6: two more."""
    bench = Bench()
    bench.kserve.trouble, bench.local = errors.Unavailable("down"), None

    (answer,) = bench.decide(seen(cpu_utilization=0.9))

    assert answer.source is Source.HPA_RULE
    assert answer.action is ScaleAction.SCALE_UP_2
    assert answer.decision is None
    assert answer.refusals == {Source.KSERVE: "down", Source.LOCAL_MODEL: "no local model"}


def test_without_any_metric_nothing_is_changed() -> None:
    """`hold` says what every other source lacked."""
    (answer,) = Bench().decide(seen(cpu_utilization=math.nan))

    assert answer.source is Source.HOLD
    assert answer.target_replicas == 4
    assert answer.refusals == {
        Source.KSERVE: "no metrics: cpu_utilization",
        Source.LOCAL_MODEL: "no metrics: cpu_utilization",
        Source.HPA_RULE: "no CPU utilization, or no replica",
    }


def test_a_workload_without_metrics_does_not_spoil_its_neighbours() -> None:
    """It is not even asked about; the others are answered by KServe."""
    bench = Bench()

    answers = bench.decide(seen(), seen(memory_pressure=math.nan), seen(7))

    assert sources(answers) == [Source.KSERVE, Source.HPA_RULE, Source.KSERVE]
    assert [answer.current_replicas for answer in answers] == [4, 4, 7]
    assert bench.kserve.asked == [2]


def test_declared_absence_is_no_absence() -> None:
    """`ABSENT_AS_ZERO` counts for the chain as it does for the transformer."""
    bench = Bench(absent_as_zero=("memory_pressure",))
    bench.kserve.trouble = errors.Unavailable("down")

    assert sources(bench.decide(seen(memory_pressure=math.nan))) == [Source.LOCAL_MODEL]


@pytest.mark.parametrize(
    "change",
    [
        lambda decisions: decisions[:-1],
        lambda decisions: [*decisions, decisions[0]],
        lambda decisions: decisions[::-1],
        lambda decisions: [replace(decisions[0], current_replicas=40), *decisions[1:]],
        lambda decisions: [replace(decisions[0], allowed_actions=tuple(ScaleAction)), decisions[1]],
    ],
)
def test_an_answer_to_another_question_is_not_used(
    change: Callable[[list[Decision]], list[Decision]],
) -> None:
    """Other replicas, other bounds, another number of rows: nobody acts on it."""
    bench = Bench()
    bench.kserve.change = change

    answers = bench.decide(seen(1), seen(9))

    assert sources(answers) == [Source.LOCAL_MODEL, Source.LOCAL_MODEL]


def test_a_decision_that_validation_refuses_is_not_used() -> None:
    """The local model answers, with validation's reason; the breaker stays closed."""
    bench = Bench()
    bench.refusal = "version 3 is not validated"

    (answer,) = bench.decide(seen())

    assert answer.source is Source.LOCAL_MODEL
    assert answer.refusals == {Source.KSERVE: "version 3 is not validated"}
    assert bench.chain.breaker.state is BreakerState.CLOSED


def test_after_three_failures_kserve_is_left_alone_and_then_asked_once() -> None:
    """No question while open; after the cool-down one, whose success closes the breaker."""
    bench = Bench()
    bench.kserve.trouble = errors.Unavailable("down")
    for _ in range(3):
        bench.decide(seen())
    assert bench.chain.breaker.state is BreakerState.OPEN

    bench.time.now += 5.0
    (answer,) = bench.decide(seen())
    assert answer.refusals[Source.KSERVE] == "circuit breaker open"
    assert len(bench.kserve.asked) == 3

    bench.time.now += 10.0
    bench.kserve.trouble = None
    assert sources(bench.decide(seen())) == [Source.KSERVE]
    assert bench.chain.breaker.state is BreakerState.CLOSED


def test_a_refused_question_does_not_open_the_breaker() -> None:
    """A 400 shows that the server works."""
    bench = Bench()
    bench.kserve.trouble = errors.InvalidRequest("bad row")

    for _ in range(10):
        bench.decide(seen())

    assert bench.chain.breaker.state is BreakerState.CLOSED


def test_many_workloads_are_asked_about_in_few_questions() -> None:
    """Seven rows in batches of three, answered in order."""
    bench = Bench(batch_rows=3)

    answers = bench.decide(*(seen(replicas) for replicas in range(1, 8)))

    assert bench.kserve.asked == [3, 3, 1]
    assert [answer.target_replicas for answer in answers] == list(range(2, 9))


def test_a_kserve_that_never_answers_is_left_before_the_deadline() -> None:
    """The reserve is kept for the local model."""

    class Silent(FakeKserve):
        async def decide(
            self, instances: Sequence[NamedMetrics], *, deadline_s: float | None = None
        ) -> list[Decision]:
            await asyncio.Event().wait()
            return []

    chain = DecisionChain(
        FallbackSettings(deadline_s=0.05, reserve_s=0.04),
        clock=FakeTime().clock,
        kserve=Silent(),
        local_model=lambda: MODEL,
    )

    (answer,) = asyncio.run(chain.decide([seen()]))

    assert answer.source is Source.LOCAL_MODEL
    assert answer.refusals == {Source.KSERVE: "no answer within 0.010 s"}


def test_without_kserve_the_chain_begins_at_the_local_model() -> None:
    """So that an operator can run without any server."""
    chain = DecisionChain(
        FallbackSettings(), clock=FakeTime().clock, kserve=None, local_model=lambda: MODEL
    )

    (answer,) = asyncio.run(chain.decide([seen()]))

    assert answer.source is Source.LOCAL_MODEL
    assert answer.refusals == {Source.KSERVE: "not configured"}


def test_a_broken_local_model_is_passed_over() -> None:
    """Its words are kept."""

    class Broken(LocalModel):
        def decide(self, *args: Any, **kwargs: Any) -> list[Decision]:
            message = "NaN"
            raise errors.NonFiniteOutput(message)

    bench = Bench()
    bench.kserve.trouble = errors.Unavailable("down")
    bench.local = Broken(MODEL.identity, MODEL._session)

    (answer,) = bench.decide(seen())

    assert answer.source is Source.HPA_RULE
    assert answer.refusals[Source.LOCAL_MODEL] == "NaN"


def test_no_workload_is_no_question() -> None:
    """An operator without policies asks nobody."""
    bench = Bench()

    assert bench.decide() == []
    assert bench.kserve.asked == []


FLOATS = st.floats() | st.floats(0.0, 2.0)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    low = draw(st.integers(0, 60))
    return Observation(
        values=tuple(draw(st.lists(FLOATS, min_size=11, max_size=11))),
        current_replicas=draw(st.integers(0, 70) | st.just(1_000_000)),
        min_replicas=low,
        max_replicas=draw(st.integers(low, 1_000_000)),
    )


@given(
    st.lists(observations(), max_size=5),
    st.sampled_from([*FAILURES, None]),
    st.booleans(),
    st.none() | st.just("refused"),
)
def test_the_chain_is_total(
    rows: list[Observation], trouble: Exception | None, has_local: bool, refusal: str | None
) -> None:
    """Any metrics, any failure: one recommendation a row, within reach, from a named source."""
    bench = Bench()
    bench.kserve.trouble, bench.refusal = trouble, refusal
    bench.local = MODEL if has_local else None

    answers = bench.decide(*rows)

    assert len(answers) == len(rows)
    order = list(Source)
    for row, answer in zip(rows, answers, strict=True):
        assert answer.current_replicas == row.current_replicas
        assert set(answer.refusals) == set(order[: order.index(answer.source)])
        assert (answer.decision is not None) is (answer.source in order[:2])
        target = answer.target_replicas
        if row.min_replicas <= row.current_replicas <= row.max_replicas:
            assert row.min_replicas <= target <= row.max_replicas


@pytest.mark.parametrize(
    ("cpu", "current", "low", "high", "action"),
    [
        (0.70, 4, 1, 50, ScaleAction.NO_ACTION),
        (0.76, 4, 1, 50, ScaleAction.NO_ACTION),  # within the tolerance of 10 %
        (0.80, 4, 1, 50, ScaleAction.SCALE_UP_1),
        (0.99, 4, 1, 50, ScaleAction.SCALE_UP_2),
        (math.inf, 40, 1, 50, ScaleAction.SCALE_UP_2),
        (0.50, 4, 1, 50, ScaleAction.SCALE_DOWN_1),
        (0.00, 9, 1, 50, ScaleAction.SCALE_DOWN_2),
        (0.00, 9, 8, 50, ScaleAction.SCALE_DOWN_1),
        (0.99, 4, 1, 5, ScaleAction.SCALE_UP_1),
        (0.99, 9, 1, 5, ScaleAction.NO_ACTION),  # bounds forbid to add, the rule to remove
        (0.10, 9, 1, 5, ScaleAction.SCALE_DOWN_2),
        (math.nan, 4, 1, 50, None),
        (-0.01, 4, 1, 50, None),
        (-math.inf, 4, 1, 50, None),
        (0.90, 0, 0, 50, None),
    ],
)
def test_the_hpa_rule_steps_towards_what_the_hpa_would_ask_for(
    cpu: float, current: int, low: int, high: int, action: ScaleAction | None
) -> None:
    """The nearest action that the bounds allow; none from a CPU value that cannot be."""
    workload = seen(current, low, high, cpu_utilization=cpu)

    assert hpa_action(workload, target=0.7, tolerance=0.1) is action


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("deadline_s", 0.0),
        ("reserve_s", 5.0),
        ("reserve_s", -1.0),
        ("batch_rows", 0),
        ("hpa_target", 0.0),
        ("hpa_target", 1.1),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(errors.InvalidRequest, match=f"{field}: expected"):
        FallbackSettings(**{field: value})  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.floats(0.0, 14.9),
    st.floats(0.0, 14.9),
    st.sampled_from([1, 3, 16]),
)
def test_an_outage_costs_no_interval_and_its_end_two_at_most(
    intervals: int, dies_s: float, returns_s: float, turns: int
) -> None:
    """At 15 s, for any length and phase of the outage, with few workloads or with hundreds.

    Every turn of a dead interval is answered by the local model; two intervals after the return
    every turn is KServe's again.
    """
    bench, start_s = Bench(), 1_000.0
    dies = start_s + 15.0 + dies_s
    returns = start_s + 15.0 * (1 + intervals) + returns_s
    found = []

    for turn in range((intervals + 6) * turns):
        bench.time.now = start_s + turn * 15.0 / turns
        dead = dies <= bench.time.now < returns
        bench.kserve.trouble = errors.PredictorUnavailable("refused") if dead else None
        found.append((bench.time.now, *sources(bench.decide(seen()))))

    assert {source for when, source in found if when < dies} <= {Source.KSERVE}
    assert {source for when, source in found if dies <= when < returns} <= {Source.LOCAL_MODEL}
    assert {source for when, source in found if when >= returns + 30.0} == {Source.KSERVE}
