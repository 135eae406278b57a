"""What Prometheus shows of a lane: late, averaged, bucketed, sometimes absent; never the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.features import INDEX, NAMES, STATE_DIM
from tests.training.simulator.worlds import constant, fixed, lanes_with, steady_episode
from training.simulator.lanes import ClusterLanes
from training.simulator.metrics import histogram_quantile
from training.simulator.service import BUCKETS
from training.simulator.workload import Episode, Workload

CLEAN = {"scrape_jitter_s": 0.0, "scrape_drop_ratio": 0.0, "rule_delay_s": 0.0}


def run(lanes: ClusterLanes, replicas: int, steps: int) -> dict[str, float]:
    for _ in range(steps):
        lanes.step(np.full(lanes.lanes, replicas))
    return dict(zip(NAMES, lanes.observe()[0].tolist(), strict=True))


def test_a_steady_service_is_seen_as_it_is() -> None:
    """Eight busy of sixteen pods: 160 requests/s, half the CPU, no errors, in flight about 8."""
    world = fixed(cpu_share_ratio=1.0, idle_cpu_ratio=0.0, bytes_per_request=1000.0)
    lanes = lanes_with([steady_episode(8.0, 16)], world)

    seen = run(lanes, 16, 20)

    assert seen["request_rate"] == pytest.approx(160.0, rel=0.05)
    assert seen["cpu_utilization"] == pytest.approx(0.5, rel=0.05)
    assert seen["network_io_rate"] == pytest.approx(160_000.0, rel=0.05)
    assert seen["pod_count"] == 16.0
    assert seen["error_rate"] == 0.0
    assert seen["queue_depth"] == pytest.approx(8.0, abs=9.0)
    assert 0.05 <= seen["response_time_p95"] <= 0.1


def test_without_traffic_latency_and_errors_are_absent() -> None:
    """0 / 0 is NaN in PromQL; the rate itself is 0, not absent."""
    nothing = Workload(name="n", group="n", step_s=60.0, load=np.zeros(60))
    lanes = lanes_with([Episode(workload=nothing, seed=1, scale=1.0)])

    seen = run(lanes, 2, 20)

    assert seen["request_rate"] == 0.0
    assert np.isnan(seen["response_time_p95"])
    assert np.isnan(seen["error_rate"])
    assert seen["cpu_utilization"] == pytest.approx(0.01)


@pytest.mark.parametrize(("exporters", "absent"), [(0.1, "cpu_throttling"), (0.2, "queue_depth")])
def test_a_cluster_without_an_exporter_has_no_series(exporters: float, absent: str) -> None:
    """Some clusters lack the throttling metric or the gauge of requests in flight."""
    lanes = lanes_with([steady_episode(2.0, 4)], fixed(exporters=exporters))

    seen = run(lanes, 4, 10)

    assert {name for name in NAMES if np.isnan(seen[name])} == {absent}


def test_a_window_with_fewer_than_two_samples_gives_no_rate() -> None:
    """When scrapes fail, `rate()` has nothing to subtract; the gauges keep their last value."""
    lanes = lanes_with([steady_episode(2.0, 4)], fixed(scrape_drop_ratio=1.0, rate_window_s=45.0))

    seen = run(lanes, 4, 10)

    rates = ("request_rate", "cpu_utilization", "network_io_rate", "response_time_p95")
    assert all(np.isnan(seen[name]) for name in rates)
    assert seen["pod_count"] == 4.0


def test_a_step_in_traffic_is_seen_late_and_smoothed() -> None:
    """A window of 60 s shows a doubled rate fully only after a minute and the rule's delay."""
    load = np.concatenate([np.ones(20), np.full(40, 2.0)])
    step = Workload(name="s", group="s", step_s=60.0, load=load)
    lanes = lanes_with([Episode(workload=step, seed=1, scale=4.0)], fixed(**CLEAN))
    seen = []

    for _ in range(4 * 26):
        lanes.step(np.array([20]))
        seen.append(lanes.observe()[0, INDEX["request_rate"]])

    at = {minute: np.mean(seen[4 * minute - 1 : 4 * minute + 1]) for minute in (18, 20, 23)}
    assert at[18] == pytest.approx(80.0, rel=0.05)
    assert at[20] < 125.0
    assert at[23] == pytest.approx(160.0, rel=0.05)


def test_the_gauge_of_requests_in_flight_is_read_at_one_moment() -> None:
    """It scatters like a Poisson number, so it does not tell the load without noise."""
    lanes = lanes_with([steady_episode(9.0, 20)])
    seen = []

    for _ in range(400):
        lanes.step(np.array([20]))
        seen.append(lanes.observe()[0, INDEX["queue_depth"]])

    assert np.mean(seen) == pytest.approx(9.0, rel=0.15)
    assert np.var(seen) == pytest.approx(9.0, rel=0.4)


def test_new_pods_lower_the_mean_cpu_and_removed_ones_do_not_raise_it() -> None:
    """Means are over live pods: a removed pod's use is forgotten with it."""
    world = fixed(cpu_share_ratio=1.0, idle_cpu_ratio=0.0, startup_cpu_ratio=0.0, **CLEAN)
    lanes = lanes_with([steady_episode(6.0, 12)], world)
    before = run(lanes, 12, 20)["cpu_utilization"]

    grown = run(lanes, 24, 3)["cpu_utilization"]
    shrunk = [run(lanes, 12, 1)["cpu_utilization"] for _ in range(12)]

    assert before == pytest.approx(0.5, rel=0.06)
    assert grown < 0.45
    assert max(shrunk) < 0.56


def test_the_metrics_api_counts_pods_as_the_hpa_does() -> None:
    """Old pods are measured, the newest are missing, then unready until a window has passed."""
    lanes = lanes_with([steady_episode(2.0, 4)])

    lanes.step(np.array([6]))
    young = lanes.pod_metrics()
    lanes.step(np.array([6]))
    older = lanes.pod_metrics()
    lanes.step(np.array([6]))
    grown = lanes.pod_metrics()

    assert (young.measured[0], young.missing[0] + young.unready[0]) == (4, 2)
    assert (older.measured[0], older.unready[0]) == (4, 2)
    assert (grown.measured[0], grown.missing[0], grown.unready[0]) == (6, 0, 0)
    assert young.cpu_utilization[0] == pytest.approx(0.485, rel=0.15)


@given(st.lists(st.floats(0.001, 4.9), min_size=1, max_size=200), st.floats(0.05, 0.99))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(times: list[float], q: float) -> None:
    """`histogram_quantile` cannot be wrong by more than its bucket."""
    values = np.sort(np.array(times))
    cumulative = np.append(np.searchsorted(values, BUCKETS, side="right"), len(values))

    found = histogram_quantile(q, cumulative[None, :].astype(np.float64))[0]

    truth = values[max(int(np.ceil(q * len(values) - 1e-9)) - 1, 0)]
    bucket = int(np.searchsorted(BUCKETS, truth))
    assert (BUCKETS[bucket - 1] if bucket else 0.0) <= found <= BUCKETS[bucket]


def test_a_quantile_above_all_buckets_is_the_highest_bound() -> None:
    """As Prometheus answers when the rank falls into +Inf."""
    cumulative = np.zeros((1, len(BUCKETS) + 1))
    cumulative[0, -1] = 10.0

    assert histogram_quantile(0.95, cumulative)[0] == BUCKETS[-1]


def test_observations_do_not_depend_on_the_lanes_beside() -> None:
    """A lane alone and the same lane among others show the same eleven numbers."""
    episode = Episode(workload=constant(), seed=11, scale=5.0, initial_replicas=9)
    others = [Episode(workload=constant(), seed=seed, scale=8.0) for seed in range(3)]
    alone, among = lanes_with([episode]), lanes_with([*others, episode])

    for _ in range(30):
        alone.step(np.array([9]))
        among.step(np.array([5, 20, 9, 9]))

    assert alone.observe().shape == (1, STATE_DIM)
    assert np.array_equal(alone.observe()[0], among.observe()[3], equal_nan=True)
