"""Eleven features and the metrics API, from counters that are only seen when they are scraped.

A ring keeps the last seconds of every counter and gauge. A query at time t sees the samples that
Prometheus holds by then: scrapes at their phase and interval, with jitter, some of them missing,
and recording rules that were evaluated a little earlier. `rate()` is the slope between the first
and the last sample in its window; fewer than two samples give an absent series.

Source: Prometheus documentation, "Query functions", rate() and histogram_quantile().
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.features import INDEX, STATE_DIM
from training.simulator.draws import Purpose, triangular, uniform
from training.simulator.housekeeping import CONTAINERS, last_reading, reading_times
from training.simulator.pods import Pods
from training.simulator.service import BUCKETS

HISTORY_S: Final = 256
"""Seconds kept; more than window, two missed scrapes and rule delay together."""
_METRICS_API_S: Final = 15.0
"""Resolution of the metrics server, `--metric-resolution`."""
_NO_THROTTLING: Final = 0.15
_NO_GAUGE: Final = 0.3
"""Limits of `SimulatorSettings.exporters`."""
_NEIGHBOUR_NOISE: Final = 0.05
"""Relative deviation of what other workloads use of a node, from one observation to the next."""


class Series(IntEnum):
    """Rows of the ring. Counters first, cumulative since the lane began; gauges after them."""

    COMPLETED = 0
    FAILED = 1
    CPU = 2
    """CPU time of one ready pod, over its limit; the balancer keeps ready pods equal."""
    THROTTLED = 3
    """Throttled time of one ready pod."""
    IN_FLIGHT = 4
    READY = 5
    PODS = 6
    BUCKET = 7
    """First of the latency buckets."""


ROWS: Final = Series.BUCKET + len(BUCKETS)
_GAUGES: Final = [Series.IN_FLIGHT, Series.READY, Series.PODS]


class Samples(NamedTuple):
    """What the queries of N lanes find."""

    first: NDArray[np.int64]
    """Second of the first sample in the window (N,)."""
    last: NDArray[np.int64]
    """Second of the last sample (N,)."""


class History:
    """The ring of N lanes."""

    def __init__(self, lanes: int) -> None:
        # Counters lose 1e-7 of their value here: 1e-4 of a rate over a minute after a day.
        self._ring = np.zeros((HISTORY_S, ROWS, lanes), dtype=np.float32)
        self._lane = np.arange(lanes)

    def row(self, now: int) -> NDArray[np.float32]:
        """The values at the end of second `now` - 1, (ROWS, N): counters and gauges, to write."""
        row: NDArray[np.float32] = self._ring[now % HISTORY_S]
        return row

    def backfill(self, lanes: NDArray[np.int64], rate: NDArray[np.float64], now: int) -> None:
        """Pretend that the lanes have long been in a steady state.

        Args:
            lanes: Lanes (K,).
            rate: Increase per second of the counters and value of the gauges (ROWS, K).
            now: The common clock.
        """
        age = (now - np.arange(HISTORY_S)) % HISTORY_S  # (HISTORY_S,)
        past = -age[:, None, None] * rate  # (HISTORY_S, ROWS, K)
        past[:, _GAUGES, :] = rate[_GAUGES, :]
        self._ring[:, :, lanes] = past

    def mean(self, row: Series, now: int, seconds: int) -> NDArray[np.float64]:
        """Mean of a gauge over the last seconds (N,)."""
        recent = (now - np.arange(seconds)) % HISTORY_S
        return np.asarray(self._ring[recent, row].mean(axis=0, dtype=np.float64))

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Give every lane the past of its leader (N,)."""
        self._ring[:] = self._ring[:, :, leader]

    def rows_at(self, rows: list[Series], second: NDArray[np.int64]) -> NDArray[np.float64]:
        """Some rows at one second of each lane (N, len(rows))."""
        values = self._ring[second[:, None] % HISTORY_S, rows, self._lane[:, None]]
        return np.asarray(values, dtype=np.float64)

    def at(self, second: NDArray[np.int64]) -> NDArray[np.float64]:
        """All rows at one second of each lane (N, ROWS)."""
        values = self._ring[second % HISTORY_S, :, self._lane]
        return np.asarray(values, dtype=np.float64)


def scrape_times(lanes: Lanes) -> Samples:
    """First and last sample that a query finds in its window now (lane time)."""
    p, seed = lanes.parameters, lanes.seed
    interval = p["scrape_s"]
    phase = uniform(seed, 0, Purpose.SCRAPE_JITTER) * interval
    asked = lanes.age_s - p["rule_delay_s"] - phase
    last = np.floor((asked - p["scrape_jitter_s"]) / interval)
    first = np.ceil((asked - p["rate_window_s"]) / interval)
    # Two failures in a row are looked past; a third is too rare to matter.
    for _ in range(2):
        last -= _dropped(seed, p, last)
        first += _dropped(seed, p, first)
    return Samples(_when(seed, p, first, phase), _when(seed, p, last, phase))


def _dropped(
    seed: NDArray[np.uint64],
    parameters: dict[str, NDArray[np.float64]],
    scrape: NDArray[np.float64],
) -> NDArray[np.bool_]:
    lost: NDArray[np.bool_] = (
        uniform(seed, _number(scrape), Purpose.SCRAPE_DROP) < parameters["scrape_drop_ratio"]
    )
    return lost


def _when(
    seed: NDArray[np.uint64],
    parameters: dict[str, NDArray[np.float64]],
    scrape: NDArray[np.float64],
    phase: NDArray[np.float64],
) -> NDArray[np.int64]:
    late = uniform(seed, _number(scrape), Purpose.SCRAPE_JITTER) * parameters["scrape_jitter_s"]
    return np.floor(scrape * parameters["scrape_s"] + phase + late).astype(np.int64)


def _number(scrape: NDArray[np.float64]) -> NDArray[np.uint64]:
    """A counter of its own for each scrape, those before the episode included."""
    return (scrape + 64.0).astype(np.int64).astype(np.uint64)


def histogram_quantile(
    quantile: float, cumulative: NDArray[np.float64], bounds: NDArray[np.float64] = BUCKETS
) -> NDArray[np.float64]:
    """Prometheus' quantile of a histogram: linear inside the bucket.

    Args:
        quantile: Between 0 and 1.
        cumulative: Requests at most as slow as each bound, and all of them last (N, BUCKETS + 1).
        bounds: Upper bounds (BUCKETS,).

    Returns:
        The quantile (N,); the highest bound if it lies above; NaN without requests.
    """
    total = cumulative[:, -1]
    rank = quantile * total
    bucket = np.argmax(cumulative >= rank[:, None], axis=1)
    inside = np.minimum(bucket, len(bounds) - 1)
    lane = np.arange(len(total))
    upper = bounds[inside]
    lower = np.where(inside > 0, bounds[np.maximum(inside - 1, 0)], 0.0)
    below = np.where(inside > 0, cumulative[lane, np.maximum(inside - 1, 0)], 0.0)
    count = np.maximum(cumulative[lane, inside] - below, 1e-12)
    value = lower + (upper - lower) * np.clip((rank - below) / count, 0.0, 1.0)
    value = np.where(bucket >= len(bounds), bounds[-1], value)
    result: NDArray[np.float64] = np.where(total > 1e-9, value, np.nan)
    return result


class Lanes(NamedTuple):
    """Whose features are asked for."""

    seed: NDArray[np.uint64]
    """(N,)"""
    parameters: dict[str, NDArray[np.float64]]
    """Each (N,)."""
    age_s: NDArray[np.int64]
    """Time since the episode began (N,)."""
    offset: NDArray[np.int64]
    """The common clock when it began (N,)."""


def features(history: History, pods: Pods, lanes: Lanes) -> NDArray[np.float64]:
    """The eleven raw features of every lane (N, F), as the recording rules make them.

    NaN is an absent series. CPU and throttling are means over the pods that live now and have been
    scraped twice; a new pod counts with what it did since its start, so it lowers the mean at
    first. Requests, errors and latency are those of the whole workload in the window.

    Args:
        history: What happened.
        pods: The pods that live now.
        lanes: N lanes.
    """
    p = lanes.parameters
    samples = scrape_times(lanes)
    end = history.at(samples.last + lanes.offset)  # (N, ROWS)
    begin = history.at(samples.first + lanes.offset)  # (N, ROWS)
    span = (samples.last - samples.first).astype(np.float64)
    span = np.where(span >= 1.0, span, np.nan)
    rate = (end - begin) / span[:, None]  # (N, ROWS)
    seen = pods.exposure(
        samples.first + lanes.offset, samples.last + lanes.offset, 1.5 * p["scrape_s"]
    )
    sampled = np.where(seen.sampled > 0.0, seen.sampled, np.nan)
    served = rate[:, Series.COMPLETED]
    requests = served + rate[:, Series.FAILED]
    traffic = np.where(requests > 1e-9, requests, np.nan)
    used, throttling = _kubelet_rates(history, lanes, samples).T
    cpu = (used * seen.serving_s + p["startup_cpu_ratio"] * seen.starting_s) / span
    raw = np.empty((len(lanes.seed), STATE_DIM))
    raw[:, INDEX["cpu_utilization"]] = cpu / sampled
    raw[:, INDEX["memory_utilization"]] = _memory(end, p)
    raw[:, INDEX["network_io_rate"]] = served * p["bytes_per_request"]
    raw[:, INDEX["request_rate"]] = requests
    raw[:, INDEX["pod_count"]] = np.maximum(end[:, Series.PODS], 1.0)
    raw[:, INDEX["response_time_p95"]] = histogram_quantile(
        0.95, np.column_stack([rate[:, Series.BUCKET :], served])
    )
    raw[:, INDEX["error_rate"]] = rate[:, Series.FAILED] / traffic
    exporters = p["exporters"]
    gauge = (exporters >= _NO_THROTTLING) & (exporters < _NO_GAUGE)
    raw[:, INDEX["queue_depth"]] = np.where(gauge, np.nan, np.rint(end[:, Series.IN_FLIGHT]))
    throttled = throttling * seen.serving_s / span
    throttled = np.where(exporters < _NO_THROTTLING, np.nan, throttled / sampled)
    raw[:, INDEX["cpu_throttling"]] = throttled
    memory = 0.5 * raw[:, INDEX["memory_utilization"]] * end[:, Series.PODS] / p["node_pods"]
    raw[:, INDEX["memory_pressure"]] = _node(lanes, 0, p["neighbour_memory_ratio"], memory)
    node_cpu = np.nan_to_num(cpu) / p["node_pods"]
    raw[:, INDEX["node_utilization"]] = _node(lanes, 1, p["neighbour_cpu_ratio"], node_cpu)
    return raw


def _node(
    lanes: Lanes,
    resource: int,
    neighbours: NDArray[np.float64],
    own: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A node's use of a resource (N,): the neighbours', with their ups and downs, and our own."""
    draw = lanes.age_s.astype(np.uint64) * np.uint64(2) + np.uint64(resource)
    noise = _NEIGHBOUR_NOISE * triangular(lanes.seed, draw, Purpose.NEIGHBOURS)
    return np.clip(neighbours * (1.0 + noise) + own, 0.0, 1.0)


def _memory(
    values: NDArray[np.float64], parameters: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    each = values[:, Series.IN_FLIGHT] / np.maximum(values[:, Series.READY], 1.0)
    used: NDArray[np.float64] = (
        parameters["memory_base_ratio"] + parameters["memory_per_request_ratio"] * each
    )
    return np.minimum(used, 1.0)


_FROM_KUBELET: Final = [Series.CPU, Series.THROTTLED]


def _kubelet_rates(history: History, lanes: Lanes, samples: Samples) -> NDArray[np.float64]:
    """CPU and throttling of a ready pod as `rate()` gives them, per second (N, 2).

    A sample bears the time at which cAdvisor read the counter, so the slope is right but older than
    that of a counter which is read when it is scraped. NaN with fewer than two readings.
    """
    opens_s = lanes.age_s - lanes.parameters["rule_delay_s"] - lanes.parameters["rate_window_s"]
    # When every scrape of the window failed there is nothing, however often cAdvisor read.
    scraped = samples.last > samples.first
    total = np.zeros((len(lanes.seed), len(_FROM_KUBELET)))
    for container in range(CONTAINERS):
        last = last_reading(lanes.seed, container, samples.last.astype(np.float64))
        first = last_reading(lanes.seed, container, opens_s) + 1.0
        slope = _slope(history, lanes, container, first, last)
        total += np.where((scraped & (last > first))[:, None], slope, np.nan)
    return total / CONTAINERS


def _slope(
    history: History,
    lanes: Lanes,
    container: int,
    first: NDArray[np.float64],
    last: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Increase of the kubelet's counters between two readings, per second (N, 2)."""
    ends = np.floor(reading_times(lanes.seed, container, last)).astype(np.int64)
    begins = np.floor(reading_times(lanes.seed, container, first)).astype(np.int64)
    span = np.maximum(ends - begins, 1).astype(np.float64)
    increase = history.rows_at(_FROM_KUBELET, ends + lanes.offset)
    increase -= history.rows_at(_FROM_KUBELET, begins + lanes.offset)
    slope: NDArray[np.float64] = increase / span[:, None]
    return slope


def serving_cpu(history: History, lanes: Lanes) -> NDArray[np.float64]:
    """CPU over the limit of a ready pod as the metrics API tells it (N,).

    The metrics server scrapes every 15 s and gives the rate between the last two readings that
    differ; the HPA asks at any time in between.

    Source: kubernetes-sigs/metrics-server, pkg/storage/pod.go.
    """
    phase = uniform(lanes.seed, 1, Purpose.SCRAPE_JITTER) * _METRICS_API_S
    scraped = np.floor((lanes.age_s - phase) / _METRICS_API_S) * _METRICS_API_S + phase
    total = np.zeros(len(lanes.seed))
    for container in range(CONTAINERS):
        last = last_reading(lanes.seed, container, scraped)
        before = last_reading(lanes.seed, container, scraped - _METRICS_API_S)
        before = np.minimum(before, last - 1.0)
        total += _slope(history, lanes, container, before, last)[:, 0]
    return total / CONTAINERS
