"""The guard: each rule alone, then what holds for all of them together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES, ScaleAction
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX, STATE_DIM
from nimbusguard.policy import guard
from nimbusguard.policy.guard import Bounds, GuardMemory, GuardSettings, Rule, Verdict
from nimbusguard.policy.roughness import UNKNOWN

DOWN_2, DOWN_1, HOLD, UP_1, UP_2 = (int(action) for action in ScaleAction)
# The reserve is off where nothing stands above peak and mean and the peak leaks away at once.
OFF = GuardSettings(
    stabilization_window_s=0.0,
    hpa_target=1.0,
    burst_ratio=0.0,
    reserve_steps=0,
    peak_headroom=0.0,
    mean_headroom=0.0,
    peak_margin=0.0,
    mean_margin=0.0,
    fall_s=1e-3,
    mean_s=1e-3,
    slack=0.0,
)
QUICK = dataclasses.replace(OFF, hpa_target=0.8, stabilization_window_s=60.0)
FRESH = guard.start(1, 1000.0)
ONE_TO_FIFTY = Bounds(np.array([1]), np.array([50]))


def features(**given_values: float) -> NDArray[np.float64]:
    raw = np.zeros((1, STATE_DIM))
    for name, value in {"cpu_utilization": 0.2, "pod_count": 10.0, **given_values}.items():
        raw[0, INDEX[name]] = value
    return raw


def judge(
    settings: GuardSettings,
    action: int,
    *,
    now_s: float = 1000.0,
    current: int = 10,
    memory: GuardMemory | None = None,
    bounds: Bounds = ONE_TO_FIFTY,
    **raw: float,
) -> tuple[GuardMemory, Verdict]:
    return guard.judge(
        settings,
        guard.start(1, 0.0) if memory is None else memory,
        np.array([action]),
        features(**{"pod_count": float(current), **raw}),
        np.array([current]),
        bounds,
        now_s=now_s,
    )


def test_with_all_rules_off_a_recommendation_passes() -> None:
    """Every action is carried out as recommended, and no rule is named."""
    for action in ScaleAction:
        _, verdict = judge(OFF, int(action))

        assert verdict.target.tolist() == [10 + action.change]
        assert verdict.rules.tolist() == [Rule.NONE]


def test_a_removal_waits_until_the_last_high_wish_has_left_the_window() -> None:
    """Ten pods at 80 % were wanted at 1000 s: for 60 s none goes, then two do."""
    memory = guard.start(1, 0.0)
    memory, _ = judge(QUICK, HOLD, now_s=1000.0, memory=memory, cpu_utilization=0.8)
    targets = []
    for now_s in (1015.0, 1030.0, 1045.0, 1060.0, 1075.0):
        memory, verdict = judge(QUICK, DOWN_2, now_s=now_s, memory=memory, cpu_utilization=0.4)
        targets.append(int(verdict.target[0]))

    assert targets == [10, 10, 10, 10, 8]


def test_replicas_come_down_to_the_highest_wish_within_the_window_and_no_further() -> None:
    """Nine of ten pods were wanted 30 s ago, so of two removals one is carried out."""
    memory = guard.start(1, 0.0)
    memory, _ = judge(QUICK, HOLD, now_s=1000.0, memory=memory, cpu_utilization=0.71)

    _, verdict = judge(QUICK, DOWN_2, now_s=1030.0, memory=memory, cpu_utilization=0.3)

    assert verdict.target.tolist() == [9]
    assert guard.names_of(int(verdict.rules[0])) == ["STABILIZATION"]


def test_a_window_that_has_passed_does_not_slow_the_next_steps() -> None:
    """The window is over absolute wishes: once it is quiet, each decision may remove two."""
    memory = guard.start(1, 0.0)
    current, targets = 10, []
    for step in range(8):
        memory, verdict = judge(
            QUICK,
            DOWN_2,
            now_s=15.0 * step,
            current=current,
            memory=memory,
            cpu_utilization=1.0 / current,
        )
        current = int(verdict.target[0])
        targets.append(current)

    assert targets == [10, 10, 10, 10, 10, 8, 6, 4]


def test_a_guard_that_has_just_started_removes_nothing() -> None:
    """A restart must not look like a quiet window."""
    _, verdict = judge(GuardSettings(), DOWN_2, memory=FRESH, now_s=1000.0)

    assert verdict.target.tolist() == [10]


def test_an_addition_is_never_held_by_window_or_hpa_rule() -> None:
    """The network may add freely."""
    _, verdict = judge(GuardSettings(), UP_2, memory=FRESH, now_s=1000.0)

    assert verdict.target.tolist() == [12]


@pytest.mark.parametrize(
    ("cpu", "target"),
    [(0.30, 8), (0.76, 9), (0.84, 10), (1.0, 10)],
)
def test_a_removal_stops_where_the_hpa_rule_would(cpu: float, target: int) -> None:
    """At 76 % of ten pods the HPA rule for 85 % wants ceil(8.94) = 9, so two fewer become one."""
    settings = dataclasses.replace(OFF, hpa_target=0.85)

    _, verdict = judge(settings, DOWN_2, cpu_utilization=cpu)

    assert verdict.target.tolist() == [target]
    assert bool(verdict.rules[0] & Rule.HPA_OBJECTS) == (target != 8)


def test_without_cpu_nothing_is_removed() -> None:
    """Missing data must not look like an idle service."""
    _, verdict = judge(OFF, DOWN_2, cpu_utilization=float("nan"))

    assert verdict.target.tolist() == [10]


def test_demand_of_twice_the_pods_is_answered_at_once_and_within_the_scale_up_limit() -> None:
    """At 0.05 s a request, 800 requests/s need 40 pods; ten pods may become twenty at once."""
    settings = dataclasses.replace(OFF, burst_ratio=2.0)
    memory, _ = judge(settings, HOLD, request_rate=100.0, cpu_utilization=0.5)

    _, verdict = judge(settings, UP_2, memory=memory, request_rate=800.0, cpu_utilization=1.0)

    assert verdict.target.tolist() == [20]
    assert verdict.rules.tolist() == [Rule.BURST]


def test_a_backlog_counts_as_demand() -> None:
    """Where the rate counts finished requests only, the queue tells of the others."""
    settings = dataclasses.replace(OFF, burst_ratio=2.0)
    memory, _ = judge(settings, HOLD, request_rate=100.0, cpu_utilization=0.5)

    _, verdict = judge(
        settings,
        HOLD,
        memory=memory,
        request_rate=200.0,
        cpu_utilization=1.0,
        queue_depth=15.0 * 250.0,
    )

    assert verdict.target.tolist() == [20]


def test_cpu_per_request_is_not_learnt_while_pods_are_saturated() -> None:
    """At saturation CPU over requests says more of the queue than of the request."""
    settings = dataclasses.replace(OFF, burst_ratio=2.0)

    memory, _ = judge(settings, HOLD, request_rate=400.0, cpu_utilization=1.0)

    assert np.isnan(memory.cpu_s_per_request).all()


def test_a_workload_above_its_bounds_is_led_back_without_waiting() -> None:
    """Who lowered the maximum has decided: neither window nor HPA rule is asked."""
    _, verdict = judge(
        GuardSettings(),
        DOWN_2,
        memory=FRESH,
        bounds=Bounds(np.array([1]), np.array([5])),
        cpu_utilization=0.9,
    )

    assert verdict.target.tolist() == [8]


def after(settings: GuardSettings, busy: NDArray[np.float64], *, pods: float) -> GuardMemory:
    """What is remembered after a load on so many pods."""
    memory = guard.start(1, 0.0)
    for step, each in enumerate(busy):
        memory, _ = judge(
            settings,
            HOLD,
            now_s=15.0 * step,
            current=int(pods),
            memory=memory,
            cpu_utilization=each / pods,
        )
    return memory


# Two hours of 12 busy pods, or of 8 and 16 in turn, a minute each.
SMOOTH = np.full(480, 12.0)
ROUGH = np.tile(np.repeat([8.0, 16.0], 4), 60)
SHIPPED = dataclasses.replace(GuardSettings(), burst_ratio=0.0)


def test_a_rough_load_is_given_more_pods_than_a_smooth_one_of_the_same_mean() -> None:
    """On 12 pods the reserve adds two at once for the rough load; the smooth one gets a margin."""
    targets = {}
    for name, busy in (("smooth", SMOOTH), ("rough", ROUGH)):
        memory = after(SHIPPED, busy, pods=20.0)
        kept = 12
        for step in range(10):
            _, verdict = judge(
                SHIPPED,
                HOLD,
                now_s=7215.0 + 15.0 * step,
                current=kept,
                memory=memory,
                cpu_utilization=12.0 / kept,
            )
            kept = int(verdict.target[0])
        targets[name] = kept

    assert targets["smooth"] == 14
    assert targets["rough"] >= 20


def test_the_reserve_adds_no_more_than_its_steps_and_says_so() -> None:
    """Sixteen of late and twelve pods: two are added in one decision, not all that are missing."""
    memory = after(SHIPPED, ROUGH, pods=20.0)

    _, verdict = judge(SHIPPED, HOLD, now_s=7215.0, memory=memory, current=12, cpu_utilization=0.9)

    assert verdict.target.tolist() == [14]
    assert guard.names_of(int(verdict.rules[0])) == ["RESERVE"]


def test_without_steps_the_reserve_only_holds() -> None:
    """Zero steps: nothing is added for it, and a removal is still held."""
    settings = dataclasses.replace(SHIPPED, reserve_steps=0)
    memory = after(settings, ROUGH, pods=20.0)

    targets = [
        int(
            judge(
                settings,
                action,
                now_s=7215.0,
                memory=memory,
                current=12,
                cpu_utilization=0.9,
            )[1].target[0]
        )
        for action in (HOLD, DOWN_2)
    ]

    assert targets == [12, 12]


def test_what_is_found_at_a_start_is_let_go_after_the_window() -> None:
    """Four times the demand: nothing goes within the window of 300 s, most of it soon after."""
    memory, current, targets = guard.start(1, 0.0), 20, []
    for step in range(60):
        memory, verdict = judge(
            SHIPPED,
            DOWN_2,
            now_s=15.0 * step,
            current=current,
            memory=memory,
            cpu_utilization=5.0 / current,
        )
        current = int(verdict.target[0])
        targets.append(current)

    assert targets[:20] == [20] * 20
    assert targets[-1] < 10
    assert targets == sorted(targets, reverse=True)


@pytest.mark.parametrize(
    ("window_s", "left"),
    [(0.0, 0.0), (30.0, 10.0 * np.exp(-600 / 105)), (300.0, 10.0 * np.exp(-60 / 105))],
)
def test_a_shorter_window_shortens_the_memory_of_the_peak(window_s: float, left: float) -> None:
    """A minute after ten busy pods there are none: who asks for no window keeps nothing."""
    settings = dataclasses.replace(SHIPPED, stabilization_window_s=window_s)
    memory = after(settings, np.concatenate((np.full(240, 10.0), np.zeros(4))), pods=20.0)

    assert memory.peak[0] == pytest.approx(left)


@pytest.mark.parametrize(
    ("roughness", "most_slack", "kept"), [(0.0, 1.7, 14), (0.03, 1.7, 15), (0.03, 0.1, 14)]
)
def test_slack_above_the_reserve_grows_with_the_roughness(
    roughness: float, most_slack: float, kept: int
) -> None:
    """12.6 busy pods ask for 13.9; 0.3 of slack hold the fifteenth, a tenth of a pod does not."""
    settings = dataclasses.replace(SHIPPED, most_slack=most_slack)
    memory = after(settings, np.full(480, 12.6), pods=20.0)
    memory = memory._replace(mean_square=np.array([roughness**2]))

    _, verdict = judge(
        settings, DOWN_1, now_s=7215.0, memory=memory, current=15, cpu_utilization=12.6 / 15
    )

    assert verdict.target.tolist() == [kept]


def test_a_nearly_idle_workload_comes_down_to_one_pod() -> None:
    """A load of eight pods has ended; a twentieth of a pod is left, and then nothing."""
    for left in (0.05, 0.0):
        memory, current = after(SHIPPED, np.full(240, 8.0), pods=10.0), 10
        for step in range(80):
            memory, verdict = judge(
                SHIPPED,
                DOWN_1,
                now_s=3615.0 + 15.0 * step,
                current=current,
                memory=memory,
                cpu_utilization=left / current,
            )
            current = max(int(verdict.target[0]), 1)

        assert current == 1


def test_a_missing_demand_changes_neither_peak_nor_mean() -> None:
    """A scrape that fails is no idle service."""
    memory = after(SHIPPED, SMOOTH, pods=20.0)

    blind, verdict = judge(
        SHIPPED,
        DOWN_2,
        now_s=7215.0,
        memory=memory,
        current=14,
        cpu_utilization=float("nan"),
        request_rate=float("nan"),
    )

    assert verdict.target.tolist() == [14]
    assert blind.peak.tolist() == memory.peak.tolist()
    assert blind.mean.tolist() == memory.mean.tolist()


def lived(count: int) -> GuardMemory:
    """Memory of workloads that have differed from each other for an hour."""
    memory, current = guard.start(count, 0.0), np.full(count, 10)
    bounds = Bounds(np.ones(count, dtype=np.int64), np.full(count, 50))
    for step in range(240):
        cpu = 0.4 + 0.02 * np.arange(count) + 0.1 * (step % 3) * np.arange(count)
        raw = np.concatenate([features(cpu_utilization=each, request_rate=90.0) for each in cpu])
        memory, _ = guard.judge(
            GuardSettings(), memory, np.full(count, HOLD), raw, current, bounds, now_s=15.0 * step
        )
    return memory


def test_restart_forgets_only_the_rows_that_are_named() -> None:
    """A lane whose episode begins anew starts anew in every column; its neighbour in none."""
    before = lived(2)

    memory = guard.restart(before, np.array([True, False]), 500.0)

    for name, old, new, fresh in zip(
        GuardMemory._fields, before, memory, guard.start(1, 500.0), strict=True
    ):
        assert np.array_equal(new[:1], fresh, equal_nan=True), name
        assert np.array_equal(new[1:], old[1:], equal_nan=True), name


def test_take_reorders_every_column_alike() -> None:
    """A group of lanes that follows its leader remembers what the leader does."""
    before = lived(3)
    rows = np.array([2, 0, 0])

    memory = guard.take(before, rows)

    assert memory.roughness[0] > memory.roughness[1]
    for name, old, new in zip(GuardMemory._fields, before, memory, strict=True):
        assert np.array_equal(new, old[rows], equal_nan=True), name


def test_a_workload_that_has_just_been_met_counts_as_rough() -> None:
    """What is unknown might be NASA's server; half an hour tells."""
    assert guard.start(2, 0.0).roughness.tolist() == pytest.approx([UNKNOWN, UNKNOWN])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stabilization_window_s", -1.0),
        ("hpa_target", 0.0),
        ("burst_ratio", 1.0),
        ("interval_s", 0.0),
        ("reserve_steps", -1),
        ("smooth", -0.1),
        ("peak_headroom", -0.1),
        ("mean_headroom", -0.1),
        ("peak_margin", -0.1),
        ("mean_margin", -0.1),
        ("slack", -0.1),
        ("most_slack", -0.1),
        ("trend_gain", -0.1),
        ("fall_s", 0.0),
        ("mean_s", 0.0),
    ],
)
def test_a_setting_out_of_range_is_named(name: str, value: float) -> None:
    """The message names the setting and what was expected."""
    with pytest.raises(InvalidRequest, match=name):
        dataclasses.replace(GuardSettings(), **{name: value})  # type: ignore[arg-type]


def test_the_operators_page_lists_every_setting_with_its_default() -> None:
    """The table in docs/operate.md is what the code does."""
    page = (Path(__file__).parents[2] / "docs" / "operate.md").read_text()
    table = page.split("| `GuardSettings` | default | meaning |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    told = {name.strip(" `"): float(value) for name, value in rows}

    assert told == dataclasses.asdict(GuardSettings())


@given(
    action=st.integers(0, 4),
    current=st.integers(0, 70),
    low=st.integers(1, 20),
    span=st.integers(0, 40),
    cpu=st.floats(0.0, 1.2),
    rate=st.floats(0.0, 5000.0),
    queue=st.floats(0.0, 1e5),
    learnt=st.floats(0.001, 0.5),
    now_s=st.floats(0.0, 1e6),
)
def test_a_target_is_inside_the_bounds_or_no_further_from_them_than_now(
    action: int,
    current: int,
    low: int,
    span: int,
    cpu: float,
    rate: float,
    queue: float,
    learnt: float,
    now_s: float,
) -> None:
    """Whatever is recommended and measured; and it never removes more than was recommended."""
    high = low + span
    memory = guard.start(1, 0.0)._replace(cpu_s_per_request=np.array([learnt]))

    _, verdict = judge(
        GuardSettings(),
        action,
        current=current,
        memory=memory,
        bounds=Bounds(np.array([low]), np.array([high])),
        now_s=now_s,
        cpu_utilization=cpu,
        request_rate=rate,
        queue_depth=queue,
    )

    target = int(verdict.target[0])
    assert min(low, current) <= target <= max(high, current)
    assert target >= min(current, current + int(CHANGES[action]))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_many_rows_are_judged_as_each_alone(actions: list[int]) -> None:
    """Training with lanes and an operator with one row run the same rule."""
    settings = GuardSettings()
    both = np.array([actions, actions[::-1]])  # (2, T)
    memory = guard.start(2, 0.0)
    alone = [guard.start(1, 0.0), guard.start(1, 0.0)]
    current = np.array([10, 20])
    raw = np.concatenate([features(pod_count=10.0), features(pod_count=20.0, request_rate=90.0)])
    bounds = Bounds(np.array([1, 1]), np.array([50, 50]))
    for step in range(both.shape[1]):
        now_s = 15.0 * step
        memory, verdict = guard.judge(
            settings, memory, both[:, step], raw, current, bounds, now_s=now_s
        )
        for row in range(2):
            alone[row], single = guard.judge(
                settings,
                alone[row],
                both[row : row + 1, step],
                raw[row : row + 1],
                current[row : row + 1],
                ONE_TO_FIFTY,
                now_s=now_s,
            )
            assert single.target[0] == verdict.target[row]
        current = verdict.target
