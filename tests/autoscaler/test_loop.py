"""One evaluation after the other, told as time passing."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.evidence import NOTHING, Flaw
from autoscaler.loop import (
    Case,
    Evaluation,
    LoopSettings,
    evaluate,
    observation_of,
    remember_nothing,
)
from autoscaler.policy_spec import Mode, ScalingPolicy
from autoscaler.rails import Rail, RailSettings, strange_features
from nimbusguard.client.fallback import Source
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest
from tests.autoscaler.harness import decision, metrics, policy, recommendation

DOWN, STAY, UP = ScaleAction.SCALE_DOWN_1, ScaleAction.NO_ACTION, ScaleAction.SCALE_UP_1
CALM = {"cpu_utilization": 0.3, "request_rate": 50.0}
"""Under a third of the CPU: the HPA rule does not object to a removal."""


class Story:
    """One workload under evaluation every 15 s; the workload follows what is asked for."""

    def __init__(self, current: int = 4, **change: Any) -> None:
        # A window that a test can wait out.
        self.policy = policy(**({"stabilization_window_s": 60.0} | change))
        self.settings = LoopSettings()
        self.now = 1_000.0
        self.memory = remember_nothing(self.now)
        self.current = current
        self.tick = 0

    def step(
        self, action: ScaleAction = STAY, raw: tuple[float, ...] | None = None, **change: Any
    ) -> Evaluation:
        """One interval later; metrics differ a little each time unless they are given."""
        self.now += 15.0
        self.tick += 1
        moved = {"network_io_rate": 1e5 + self.tick, "pod_count": float(self.current)}
        values = metrics(**(moved | change)) if raw is None else raw
        case = Case(
            self.policy,
            self.memory,
            observation_of(self.policy, values, self.current),
            recommendation(action, self.current),
            None,
        )
        ((self.memory, result),) = evaluate(self.settings, [case], now_s=self.now)
        if result.applies:
            self.current = result.target_replicas
        return result


def test_replicas_are_added_at_once() -> None:
    """The network may add freely."""
    story = Story()

    result = story.step(UP)

    assert (result.target_replicas, result.rules, result.applies) == (5, (), True)


def test_replicas_are_removed_when_they_were_not_needed_for_long_enough() -> None:
    """The window of a minute has passed without a wish for them."""
    story = Story(8)

    held = [story.step(DOWN, **CALM) for _ in range(4)]
    freed = story.step(DOWN, **CALM)

    assert [result.rules for result in held] == [("STABILIZATION",)] * 4
    assert (freed.target_replicas, freed.rules) == (7, ())


def test_removal_is_not_carried_out_where_the_hpa_rule_wants_the_replicas() -> None:
    """At 90 % CPU nothing is removed, however long it is asked for."""
    story = Story(8)

    results = [story.step(DOWN, cpu_utilization=0.9) for _ in range(10)]

    assert "HPA_OBJECTS" in results[0].rules
    assert {rule for result in results for rule in result.rules} == {"HPA_OBJECTS", "RESERVE"}
    assert story.current >= 8


def test_what_a_rough_load_may_want_next_is_added_without_being_asked_for() -> None:
    """A load between two and six busy pods, minute by minute: eight pods become more."""
    story = Story(8)
    for step in range(120):
        busy = 2.0 if step // 4 % 2 else 6.0
        change = {"cpu_utilization": busy / story.current, "request_rate": 20.0 * busy}
        result = story.step(STAY, **change)

    assert story.current > 8
    assert "RESERVE" not in result.rules


def test_a_start_in_the_middle_of_a_surge_adds_what_the_hpa_would_add() -> None:
    """No calm interval was seen, so the guard sees no burst: 4 pods at 120 % become 7, not 6."""
    story = Story(4)

    result = story.step(ScaleAction.SCALE_UP_2, cpu_utilization=1.2, request_rate=200.0)

    assert (result.target_replicas, result.rules) == (7, ("UNLEARNT",))


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"cpu_utilization": 0.7}, 4),
        ({"cpu_utilization": math.nan}, 4),
        ({"cpu_utilization": math.inf}, 8),
        ({"cpu_utilization": 5.0, "pod_count": 40.0}, 8),
        ({"cpu_utilization": 1.3, "memory_utilization": 0.0}, 4),
    ],
    ids=["not used up", "unknown", "infinite", "at most twice", "not believed"],
)
def test_what_is_added_unlearnt_is_bounded(change: dict[str, float], target: int) -> None:
    """As the HPA bounds it, and only on data that may be believed."""
    story = Story(4)

    assert story.step(STAY, **change).target_replicas == target


def test_once_a_calm_interval_was_seen_the_guard_alone_judges_a_surge() -> None:
    """The cost of a request is known then."""
    story = Story(4)
    story.step(STAY, **CALM)

    result = story.step(ScaleAction.SCALE_UP_2, cpu_utilization=1.3, request_rate=60.0)

    assert "UNLEARNT" not in result.rules


@pytest.mark.parametrize(
    "change",
    [
        dict.fromkeys(["cpu_utilization"], math.nan),
        dict.fromkeys(["memory_pressure"], math.nan),
        dict.fromkeys(["memory_utilization"], 0.0),
    ],
)
def test_bad_data_never_removes_a_replica(change: dict[str, float]) -> None:
    """Missing or implausible, for five minutes of asking for less."""
    story = Story(8)

    results = [story.step(DOWN, **(CALM | change)) for _ in range(20)]

    assert story.current == 8
    assert all(result.flaws for result in results)


def test_prometheus_down_changes_nothing_and_its_return_needs_no_restart() -> None:
    """Nothing is removed while blind; after a window of good data removal goes on."""
    story = Story(8)

    blind = [story.step(STAY, raw=NOTHING) for _ in range(20)]
    assert {(result.target_replicas, *result.flaws) for result in blind} == {(8, Flaw.MISSING)}

    seeing = [story.step(DOWN, **CALM) for _ in range(5)]
    assert [result.target_replicas for result in seeing] == [8, 8, 8, 8, 7]


def test_frozen_metrics_change_nothing_in_either_direction() -> None:
    """A picture that stands still would add replicas for ever."""
    story = Story()

    results = [story.step(UP, raw=metrics()) for _ in range(20)]

    assert [result.target_replicas for result in results[:5]] == [5, 6, 7, 8, 8]
    assert results[-1].rules == ("BAD_DATA",)
    assert story.current == 8
    assert story.step(UP).target_replicas == 9


def test_a_burst_is_answered_at_once() -> None:
    """Ten times the requests within 15 s: the guard adds what the steps of two could not."""
    story = Story(4)
    for _ in range(10):
        story.step(STAY, cpu_utilization=0.5, request_rate=100.0)

    result = story.step(UP, cpu_utilization=1.0, request_rate=1_000.0)

    assert "BURST" in result.rules
    assert result.target_replicas == 8


def test_a_workload_outside_its_bounds_is_brought_back_at_once() -> None:
    """Bounds are the user's word, as they are for the HPA, also while metrics are missing."""
    assert Story(9, max_replicas=6).step(STAY).target_replicas == 6
    assert Story(1, min_replicas=3).step(STAY).target_replicas == 3
    blind = Story(9, max_replicas=6).step(STAY, raw=NOTHING)
    assert (blind.target_replicas, blind.rules) == (6, ("BOUNDS",))


def test_the_pause_annotation_stops_everything() -> None:
    """Out of bounds or in a burst: nothing is changed."""
    story = Story(9, max_replicas=6, paused=True)

    result = story.step(UP)

    assert (result.target_replicas, result.rules[-1], result.applies) == (9, "PAUSED", False)


def test_a_workload_that_was_switched_off_stays_off() -> None:
    """Zero replicas are somebody's decision; the HPA too leaves them alone."""
    story = Story(0)

    result = story.step(UP, raw=NOTHING)

    assert (result.target_replicas, result.rules) == (0, ("SCALED_TO_ZERO",))


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.ADVISE])
def test_only_the_mode_act_scales(mode: Mode) -> None:
    """The others know the target and leave it."""
    result = Story(mode=mode).step(UP)

    assert (result.target_replicas, result.applies) == (5, False)


def test_a_target_that_somebody_else_scales_is_left_alone() -> None:
    """Two writers would fight."""
    story = Story()
    case = Case(
        story.policy,
        story.memory,
        observation_of(story.policy, metrics(), 4),
        recommendation(UP),
        "HorizontalPodAutoscaler/web",
    )

    ((_, result),) = evaluate(story.settings, [case], now_s=story.now)

    assert (result.target_replicas, result.applies) == (5, False)


def test_a_state_unlike_those_learnt_from_is_left_to_the_hpa_rule() -> None:
    """Far above the range every load looks the same to the network."""
    result = Story().step(DOWN, request_rate=1_300.0, cpu_utilization=0.95)

    assert result.action is ScaleAction.SCALE_UP_2
    assert result.rules == (Rail.OUT_OF_DISTRIBUTION,)
    assert strange_features(metrics(request_rate=1_300.0), 0.25) == ["request_rate"]
    assert strange_features(metrics(request_rate=1_200.0, queue_depth=math.nan), 0.25) == []


def test_a_network_without_any_preference_is_not_followed() -> None:
    """Equal Q-values for every action are no advice."""
    story = Story()
    dead = recommendation(UP, decision=decision(UP, q_values=(3.0,) * 5))
    seen = observation_of(story.policy, metrics(cpu_utilization=0.6), 4)

    ((_, result),) = evaluate(
        story.settings, [Case(story.policy, story.memory, seen, dead, None)], now_s=story.now
    )

    assert (result.action, result.rules) == (STAY, (Rail.INDIFFERENT,))


def test_a_rule_is_not_asked_whether_it_knows_the_state() -> None:
    """The HPA rule answered already."""
    story = Story()
    ruled = recommendation(UP, source=Source.HPA_RULE, decision=None)
    seen = observation_of(story.policy, metrics(request_rate=1e6), 4)

    ((_, result),) = evaluate(
        story.settings, [Case(story.policy, story.memory, seen, ruled, None)], now_s=story.now
    )

    assert (result.action, result.rules) == (UP, ())


def test_without_cpu_a_strange_state_is_held() -> None:
    """The HPA rule has nothing to go by."""
    result = Story().step(UP, request_rate=1e6, cpu_utilization=math.nan)

    assert result.action is STAY


def test_load_to_zero_comes_down_step_by_step_and_never_below_the_minimum() -> None:
    """Ten minutes without a request."""
    story = Story(10, min_replicas=2)
    idle = {"request_rate": 0.0, "cpu_utilization": 0.01, "response_time_p95": math.nan}

    seen = [story.step(ScaleAction.SCALE_DOWN_2, **idle).target_replicas for _ in range(40)]

    assert seen[:5] == [10, 10, 10, 10, 8]
    assert seen[-1] == 2
    assert all(0 <= before - after <= 2 for before, after in pairwise(seen))


def test_many_workloads_are_evaluated_as_each_by_its_own() -> None:
    """Different intervals, bounds and memories do not mix."""
    stories = [
        Story(n, interval_s=15.0 if n % 2 else 30.0, stabilization_window_s=100.0 * (n // 4))
        for n in range(1, 9)
    ]
    cases = [
        Case(
            story.policy,
            story.memory,
            observation_of(story.policy, metrics(), story.current),
            recommendation(UP, story.current),
            None,
        )
        for story in stories
    ]

    together = evaluate(LoopSettings(), cases, now_s=2_000.0)
    alone = [evaluate(LoopSettings(), [case], now_s=2_000.0)[0] for case in cases]

    assert [result for _, result in together] == [result for _, result in alone]
    assert [repr(memory) for memory, _ in together] == [repr(memory) for memory, _ in alone]
    assert evaluate(LoopSettings(), [], now_s=0.0) == []


ANYTHING = st.floats() | st.floats(0.0, 2.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ScaleAction),
            st.lists(ANYTHING, min_size=11, max_size=11).map(tuple),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.integers(1, 20),
    st.integers(1, 10),
)
def test_whatever_comes_the_rails_hold(
    steps: list[tuple[ScaleAction, tuple[float, ...], bool]], current: int, low: int
) -> None:
    """Any metrics, any advice: bounds hold, bad data removes nothing, steps stay small."""
    story = Story(current, min_replicas=low, max_replicas=low + 10)

    for action, anything, good in steps:
        before = story.current
        result = story.step(action) if good else story.step(action, raw=anything)
        assert low <= story.current <= low + 10
        if result.flaws and before <= low + 10:
            assert story.current >= before
        if result.flaws & {Flaw.FROZEN, Flaw.IMPLAUSIBLE} and low <= before <= low + 10:
            assert story.current == before
        if low <= before <= low + 10:
            assert before - story.current <= 2


def test_paused_policies_never_move() -> None:
    """Whatever is recommended."""
    paused: ScalingPolicy = policy(paused=True)

    assert paused.paused
    for action in ScaleAction:
        assert not Story(paused=True).step(action).applies


@pytest.mark.parametrize("field", ["range_margin", "spread_minimum"])
def test_settings_out_of_range_are_refused(field: str) -> None:
    """The message names the field."""
    with pytest.raises(InvalidRequest, match=f"{field}: expected at least 0"):
        RailSettings(**{field: -1.0})  # type: ignore[arg-type]
