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
from training.simulator.service import BUCKETS

HISTORY_S: Final = 256
"""Seconds kept; more than window, two missed scrapes and rule delay together."""
_METRICS_API_S: Final = 15
"""Resolution of the metrics server, `--metric-resolution`."""


class Series(IntEnum):
    """Rows of the ring. Counters first, cumulative since the lane began; gauges after them."""

    COMPLETED = 0
    FAILED = 1
    CPU = 2
    SERVING_CPU = 3
    READY_SECONDS = 4
    THROTTLED = 5
    IN_FLIGHT = 6
    READY = 7
    PODS = 8
    BUCKET = 9
    """First of the latency buckets."""


ROWS: Final = Series.BUCKET + len(BUCKETS)
_COUNTERS: Final = [*range(Series.IN_FLIGHT), *range(Series.BUCKET, ROWS)]
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

    def at(self, second: NDArray[np.int64]) -> NDArray[np.float64]:
        """All rows at one second of each lane (N, ROWS)."""
        values = self._ring[second % HISTORY_S, :, self._lane]
        return np.asarray(values, dtype=np.float64)


def scrape_times(
    seed: NDArray[np.uint64],
    parameters: dict[str, NDArray[np.float64]],
    age_s: NDArray[np.int64],
    window_s: NDArray[np.float64],
) -> Samples:
    """First and last sample that a query at each lane's age finds in its window (lane time)."""
    interval = parameters["scrape_s"]
    phase = uniform(seed, 0, Purpose.SCRAPE_JITTER) * interval
    asked = age_s - parameters["rule_delay_s"]
    last = np.floor((asked - phase - parameters["scrape_jitter_s"]) / interval)
    first = np.ceil((asked - window_s - phase) / interval)
    # Two failures in a row are looked past; a third is one too rare to matter.
    for _ in range(2):
        last -= _dropped(seed, parameters, last)
        first += _dropped(seed, parameters, first)
    return Samples(_when(seed, parameters, first, phase), _when(seed, parameters, last, phase))


def _dropped(
    seed: NDArray[np.uint64],
    parameters: dict[str, NDArray[np.float64]],
    scrape: NDArray[np.float64],
) -> NDArray[np.bool_]:
    draw = (scrape + 64.0).astype(np.int64).astype(np.uint64)
    lost: NDArray[np.bool_] = (
        uniform(seed, draw, Purpose.SCRAPE_DROP) < parameters["scrape_drop_ratio"]
    )
    return lost


def _when(
    seed: NDArray[np.uint64],
    parameters: dict[str, NDArray[np.float64]],
    scrape: NDArray[np.float64],
    phase: NDArray[np.float64],
) -> NDArray[np.int64]:
    draw = (scrape + 64.0).astype(np.int64).astype(np.uint64)
    late = uniform(seed, draw, Purpose.SCRAPE_JITTER) * parameters["scrape_jitter_s"]
    return np.floor(scrape * parameters["scrape_s"] + phase + late).astype(np.int64)


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


def features(
    history: History,
    seed: NDArray[np.uint64],
    parameters: dict[str, NDArray[np.float64]],
    age_s: NDArray[np.int64],
    offset: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The eleven raw features of every lane (N, F); NaN is an absent series.

    Args:
        history: What happened.
        seed: Lane seeds (N,).
        parameters: Lane parameters, each (N,).
        age_s: Lane time (N,).
        offset: Common clock at lane time 0 (N,).
    """
    window = parameters["rate_window_s"]
    samples = scrape_times(seed, parameters, age_s, window)
    end = history.at(samples.last + offset)  # (N, ROWS)
    begin = history.at(samples.first + offset)  # (N, ROWS)
    span = (samples.last - samples.first).astype(np.float64)
    known = span >= 1.0
    rate = (end - begin) / np.where(known, span, np.nan)[:, None]  # (N, ROWS)
    pods = np.maximum(end[:, Series.PODS], 1.0)
    requests = rate[:, Series.COMPLETED] + rate[:, Series.FAILED]
    served = requests > 1e-9
    raw = np.full((len(seed), STATE_DIM), np.nan)
    raw[:, INDEX["cpu_utilization"]] = rate[:, Series.CPU] / pods
    memory = _memory(end, parameters)
    raw[:, INDEX["memory_utilization"]] = memory
    raw[:, INDEX["network_io_rate"]] = rate[:, Series.COMPLETED] * parameters["bytes_per_request"]
    raw[:, INDEX["request_rate"]] = requests
    raw[:, INDEX["pod_count"]] = pods
    cumulative = np.column_stack([rate[:, Series.BUCKET :], rate[:, Series.COMPLETED]])
    raw[:, INDEX["response_time_p95"]] = histogram_quantile(0.95, cumulative)
    raw[:, INDEX["error_rate"]] = np.where(
        served, rate[:, Series.FAILED] / np.where(served, requests, 1.0), np.nan
    )
    raw[:, INDEX["queue_depth"]] = np.rint(end[:, Series.IN_FLIGHT])
    raw[:, INDEX["cpu_throttling"]] = rate[:, Series.THROTTLED] / pods
    draw = age_s.astype(np.uint64) * np.uint64(2)
    noise = triangular(seed, draw, Purpose.NEIGHBOURS)
    raw[:, INDEX["memory_pressure"]] = np.clip(
        parameters["neighbour_memory_ratio"]
        + 0.01 * noise
        + 0.5 * memory * pods / parameters["node_pods"],
        0.0,
        1.0,
    )
    noise = triangular(seed, draw + np.uint64(1), Purpose.NEIGHBOURS)
    raw[:, INDEX["node_utilization"]] = np.clip(
        parameters["neighbour_cpu_ratio"]
        + 0.02 * noise
        + rate[:, Series.CPU] / parameters["node_pods"],
        0.0,
        1.0,
    )
    return raw


def _memory(
    values: NDArray[np.float64], parameters: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    each = values[:, Series.IN_FLIGHT] / np.maximum(values[:, Series.READY], 1.0)
    used: NDArray[np.float64] = (
        parameters["memory_base_ratio"] + parameters["memory_per_request_ratio"] * each
    )
    return np.minimum(used, 1.0)


def serving_cpu(history: History, seed: NDArray[np.uint64], now: int) -> NDArray[np.float64]:
    """CPU over the limit of ready pods between the metrics server's last two samples (N,)."""
    phase = np.floor(uniform(seed, 1, Purpose.SCRAPE_JITTER) * _METRICS_API_S).astype(np.int64)
    last = now - phase
    end, begin = history.at(last), history.at(last - _METRICS_API_S)
    seconds = end[:, Series.READY_SECONDS] - begin[:, Series.READY_SECONDS]
    used = end[:, Series.SERVING_CPU] - begin[:, Series.SERVING_CPU]
    result: NDArray[np.float64] = np.where(seconds > 0.5, used / np.maximum(seconds, 0.5), np.nan)
    return result
