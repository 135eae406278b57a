"""Which metrics may be believed."""

from __future__ import annotations

import math

import pytest

from autoscaler.evidence import NOTHING, EvidenceSettings, Flaw, Trail, assess
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.normalization import absent_as_zero_mask
from tests.autoscaler.harness import metrics

SETTINGS = EvidenceSettings()


def flaws(raw: tuple[float, ...]) -> set[Flaw]:
    return set(assess(SETTINGS, Trail(), raw, now_s=0.0)[1])


def test_a_plain_reading_has_no_flaw() -> None:
    """Absence that the contract reads as 0 is none."""
    assert flaws(metrics()) == set()
    assert flaws(metrics(queue_depth=math.nan, cpu_throttling=math.nan)) == set()


def test_a_reading_that_did_not_come_is_missing() -> None:
    """Prometheus was down: nothing is known."""
    assert flaws(NOTHING) == {Flaw.MISSING}


@pytest.mark.parametrize("name", ["cpu_utilization", "request_rate", "node_utilization"])
def test_one_metric_that_may_not_be_absent_is_enough(name: str) -> None:
    """Half of the series is not a whole workload."""
    assert flaws(metrics(**{name: math.nan})) == {Flaw.MISSING}


def test_declared_absence_is_no_flaw() -> None:
    """`ABSENT_AS_ZERO` says so."""
    mask = absent_as_zero_mask(("memory_pressure",))
    raw = metrics(memory_pressure=math.nan)

    assert assess(SETTINGS, Trail(), raw, now_s=0.0, absent_as_zero=mask)[1] == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"cpu_utilization": -0.1},
        {"memory_utilization": 0.0},
        {"memory_pressure": 0.0},
        {"node_utilization": 0.0},
        {"pod_count": 0.0},
        dict.fromkeys(["cpu_utilization", "memory_utilization", "request_rate"], 0.0),
    ],
)
def test_what_cannot_be_is_implausible(change: dict[str, float]) -> None:
    """A zeroed exporter shows a workload without memory, which no workload is."""
    assert Flaw.IMPLAUSIBLE in flaws(metrics(**change))


def test_an_idle_workload_is_plausible() -> None:
    """No request and no CPU, for an hour, to the last bit: nothing is wrong."""
    idle = metrics(request_rate=0.0, cpu_utilization=0.0, response_time_p95=math.nan)
    trail = Trail()

    for minute in range(60):
        trail, found = assess(SETTINGS, trail, idle, now_s=60.0 * minute)
        assert found == frozenset()


def test_readings_under_traffic_that_never_change_are_frozen() -> None:
    """After a minute; one new value thaws them."""
    trail, found = assess(SETTINGS, Trail(), metrics(), now_s=100.0)
    for now in (115.0, 130.0, 145.0):
        trail, found = assess(SETTINGS, trail, metrics(), now_s=now)
        assert found == frozenset()

    trail, found = assess(SETTINGS, trail, metrics(), now_s=160.0)
    assert found == {Flaw.FROZEN}
    trail, found = assess(SETTINGS, trail, metrics(cpu_utilization=0.71), now_s=175.0)
    assert found == frozenset()


def test_absent_values_stay_equal_too() -> None:
    """NaN is not equal to itself, but a frozen NaN is frozen."""
    raw = metrics(queue_depth=math.nan)
    trail, _ = assess(SETTINGS, Trail(), raw, now_s=0.0)

    assert assess(SETTINGS, trail, raw, now_s=60.0)[1] == {Flaw.FROZEN}


def test_settings_out_of_range_are_refused() -> None:
    """The message names the field."""
    with pytest.raises(InvalidRequest, match="frozen_after_s: expected more than 0"):
        EvidenceSettings(frozen_after_s=0.0)
