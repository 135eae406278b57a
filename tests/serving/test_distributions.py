"""Histograms that count many values at once count as one that counts each."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from serving.distributions import ColumnDistributions, Distribution, merged
from serving.metrics import LATENCY_BUCKETS_S, ServingMetrics

BOUNDS = (0.0, 0.25, 0.5, 1.0)
VALUES = st.one_of(st.sampled_from([*BOUNDS, float("nan")]), st.floats(-1, 2))
MATRICES = arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=VALUES)


def naive(values: list[float]) -> list[float]:
    """Cumulative counts of the buckets, one value after another."""
    counts = [0.0] * (len(BOUNDS) + 1)
    for value in values:
        for bucket in range(bisect_left(BOUNDS, value), len(counts)):
            counts[bucket] += 1
    return counts


@given(batches=st.lists(MATRICES, max_size=4))
def test_columns_are_counted_as_one_by_one(batches: list[NDArray[np.float64]]) -> None:
    """Bounds belong to their bucket, NaN to none."""
    counted = ColumnDistributions(3, BOUNDS)
    for batch in batches:
        counted.observe(batch, 0.0)

    for column, (buckets, total) in enumerate(counted.buckets()):
        values = [v for batch in batches for v in batch[:, column].tolist() if v == v]
        assert [bucket[1] for bucket in buckets] == naive(values)
        np.testing.assert_allclose(total, sum(values), atol=1e-9)


def test_rows_at_equal_distances_stand_for_a_large_matrix() -> None:
    """A hundred of a thousand, from the first to the last tenth."""
    counted = ColumnDistributions(1, BOUNDS)

    counted.observe(np.linspace(0.0, 1.0, 1000), 0.0)

    ((buckets, _),) = counted.buckets()
    total = buckets[-1][1]
    assert 64 <= total <= 128
    assert abs(buckets[1][1] / total - 0.25) < 0.02


def test_the_first_rows_of_a_second_stand_for_it() -> None:
    """At most 2,048 and one matrix; the next second has as many again, and a look begins one."""
    counted = ColumnDistributions(1, BOUNDS)

    def total_after(seconds: float, at: float) -> float:
        for step in range(100):
            counted.observe(np.full(100, 0.5), at + seconds * step / 100)
        return float(counted.buckets()[0][0][-1][1])

    assert total_after(0.99, at=7.0) == 2100.0
    assert total_after(2.0, at=8.0) == 3 * 2100.0
    assert total_after(0.99, at=20.0) == 4 * 2100.0


@given(
    parts=st.lists(st.lists(st.sampled_from(BOUNDS) | st.floats(-1, 2)), min_size=1, max_size=3),
    copies=st.sampled_from([1, 200]),
)
def test_values_are_counted_as_one_by_one(parts: list[list[float]], copies: int) -> None:
    """Whether they wait for a look or were counted before it, in one distribution or several."""
    distributions = [Distribution(BOUNDS) for _ in parts]
    for distribution, values in zip(distributions, parts, strict=True):
        for value in values * copies:
            distribution.observe(value)
    everything = [value for values in parts for value in values * copies]

    assert sum(distribution.total for distribution in distributions) == len(everything)
    for _ in range(2):  # looking changes nothing
        buckets, total = merged(distributions)
        assert [bucket[1] for bucket in buckets] == naive(everything)
        assert total == pytest.approx(sum(everything), abs=1e-9)


def test_an_answer_is_counted_by_the_next_scrape() -> None:
    """However few there were since the last."""
    metrics = ServingMetrics("transformer", "m")
    registry = CollectorRegistry()
    registry.register(metrics)
    labels = {"component": "transformer", "model_name": "m", "route": "v1_predict"}

    for number in range(1, 3):
        metrics.observe_request("v1_predict", "200", 0.002)
        count = registry.get_sample_value("nimbusguard_request_duration_seconds_count", labels)
        assert count == number
    assert metrics.requests == {("v1_predict", "200"): 2}


def test_the_example_of_a_bucket_is_its_last_trace() -> None:
    """In the bucket that its latency belongs to."""
    metrics = ServingMetrics("transformer", "m")
    registry = CollectorRegistry()
    registry.register(metrics)
    for trace in ("a" * 32, "b" * 32):
        metrics.observe_request("v1_predict", "200", 0.002, trace)

    text = generate_latest(registry).decode()

    (line,) = (line for line in text.splitlines() if "trace_id" in line)
    assert 'le="0.0025"' in line
    assert "b" * 32 in line
    assert 0.0025 in LATENCY_BUCKETS_S
