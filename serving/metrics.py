"""Counters and histograms of the hot path, exported through prometheus_client.

A labelled `Histogram.observe` of prometheus_client takes about 2 µs and a lock. All requests run on
one event loop, so plain integers do; a collector turns them into metrics when they are scraped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nimbusguard import __version__
from nimbusguard.contract.actions import ACTION_NAMES
from nimbusguard.contract.features import NAMES, STATE_DIM
from serving.distributions import ColumnDistributions, Distribution, merged

LATENCY_BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
STAGE_BUCKETS_S: Final = (0.00001, 0.000025, 0.00005, *LATENCY_BUCKETS_S)
"""A forward pass of one row takes 30 µs."""
ROW_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 10_000.0)
STATE_BUCKETS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Tenths of a feature's range, and its lower bound by itself: what is idle, imputed or clipped."""
MARGIN_BUCKETS: Final = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_PENDING_BATCHES: Final = 256
"""Batches whose decisions are counted together; of one row or of thousands."""
_PENDING_ROWS: Final = 16_384
"""Rows of them at most: 0.6 MiB."""
_NO_ROWS: Final[NDArray[np.float64]] = np.empty((0, STATE_DIM))


class ServingState(NamedTuple):
    """What a scrape sees of the moment."""

    ready: bool = False
    waiting: int = 0
    model_version: str = ""
    fingerprint: str = ""


class Decided(NamedTuple):
    """What is counted of the decisions of one batch."""

    version: str
    actions: NDArray[np.int64]
    """Indices (B,)."""
    clipped: NDArray[np.bool_]
    """(B, F)."""
    imputed: NDArray[np.bool_]
    """(B, F)."""


class ServingMetrics(Collector):
    """The metrics of one server."""

    def __init__(self, component: str, model_name: str) -> None:
        self._labels = [component, model_name]
        self._answered: dict[tuple[str, str], Distribution] = {}
        self._stages: dict[str, Distribution] = {}
        self._batch_rows = Distribution(ROW_BUCKETS)
        # From 0 on: a rate does not see a series' first value. Only the transformer counts these.
        self._features: dict[tuple[str, str], int] = {
            (name, event): 0
            for name in (NAMES if component == "transformer" else ())
            for event in ("clipped", "imputed", "refused")
        }
        self._actions: dict[tuple[str, str], int] = {}
        self._states = ColumnDistributions(STATE_DIM, STATE_BUCKETS)
        self._margins = ColumnDistributions(1, MARGIN_BUCKETS)
        self._decided: list[Decided] = []
        self._decided_rows = 0
        self._last_rows = _NO_ROWS
        self._non_finite = 0
        self.snapshot: Callable[[], ServingState] = ServingState
        """Asked at each scrape; the server sets it."""

    def observe_request(
        self, route: str, status: str, seconds: float, trace_id: str | None = None
    ) -> None:
        """One answer: its route, its HTTP status or gRPC code, how long it took, and its trace."""
        answers = self.answers(route, status)
        answers.observe(seconds)
        if trace_id is not None:
            answers.exemplify(seconds, trace_id)

    def answers(self, route: str, status: str) -> Distribution:
        """How long the answers of one route with one status took; it stays the same object."""
        answers = self._answered.get((route, status))
        if answers is None:
            answers = self._answered[route, status] = Distribution(LATENCY_BUCKETS_S)
        return answers

    def observe_stage(self, stage: str, seconds: float) -> None:
        """How long one stage of a batch took."""
        distribution = self._stages.get(stage)
        if distribution is None:
            distribution = self._stages[stage] = Distribution(STAGE_BUCKETS_S)
        distribution.observe(seconds)

    def observe_batch(self, rows: int) -> None:
        """The rows of one batch."""
        self._batch_rows.observe(rows)

    def observe_values(self, rows: NDArray[np.float64]) -> None:
        """The raw features (B, F) of one batch, which must not change afterwards."""
        self._last_rows = rows

    def observe_states(self, states: NDArray[np.float32], at: float) -> None:
        """The states (B, F) of one batch, which must not change afterwards, and when it began."""
        self._states.observe(states, at)

    def observe_margins(self, margins: NDArray[np.float64], at: float) -> None:
        """How clear the choices (B,) of one batch were, and when it was answered."""
        self._margins.observe(margins, at)

    def observe_decisions(self, decided: Decided) -> None:
        """The decisions of one batch; its arrays must not change afterwards."""
        self._decided.append(decided)
        self._decided_rows += len(decided.actions)
        if len(self._decided) >= _PENDING_BATCHES or self._decided_rows >= _PENDING_ROWS:
            self._count_decisions()

    def count_feature(self, feature: str, event: str, amount: int) -> None:
        """Values of a feature that were `clipped`, `imputed` or `refused`."""
        key = (feature, event)
        self._features[key] = self._features.get(key, 0) + amount

    def count_refused(self, refused: NDArray[np.bool_]) -> None:
        """Values (B, F) for want of which their rows were refused."""
        for feature, amount in zip(NAMES, refused.sum(axis=0).tolist(), strict=True):
            if amount:
                self.count_feature(feature, "refused", amount)

    def _count_decisions(self) -> None:
        """Count the batches since the last time, all at once for each version."""
        decided, self._decided, self._decided_rows = self._decided, [], 0
        for version in {each.version for each in decided}:
            batches = [each for each in decided if each.version == version]
            actions = np.concatenate([each.actions for each in batches])  # (N,)
            for name, amount in zip(ACTION_NAMES, _counts(actions), strict=True):
                if amount:
                    key = (name, version)
                    self._actions[key] = self._actions.get(key, 0) + amount
        if not decided:
            return
        for event in ("clipped", "imputed"):
            mask = np.concatenate([getattr(each, event) for each in decided])  # (N, F)
            for feature in np.flatnonzero(mask.any(axis=0)) if mask.any() else ():
                amount = int(np.count_nonzero(mask[:, feature]))
                self.count_feature(NAMES[feature], event, amount)

    def count_non_finite(self) -> None:
        """A forward pass gave NaN or infinity."""
        self._non_finite += 1

    @property
    def requests(self) -> dict[tuple[str, str], int]:
        """Answers so far, by route and status."""
        return {key: answered.total for key, answered in self._answered.items()}

    def collect(self) -> Iterator[Metric]:
        """All metrics, as prometheus_client wants them."""
        self._count_decisions()
        base = ["component", "model_name"]
        requests = CounterMetricFamily(
            "nimbusguard_model_serving_requests",
            "Requests answered, by route and by HTTP status or gRPC code.",
            labels=[*base, "route", "status"],
        )
        for pair, amount in self.requests.items():
            requests.add_metric([*self._labels, *pair], amount)
        yield requests
        yield self._histograms(
            "nimbusguard_request_duration_seconds", "From a whole request to its answer.", "route",
            self._latency(),
        )  # fmt: skip
        yield self._histograms(
            "nimbusguard_stage_duration_seconds", "Stages of one batch.", "stage",
            {stage: [distribution] for stage, distribution in self._stages.items()},
        )  # fmt: skip
        batches = HistogramMetricFamily("nimbusguard_batch_rows", "Rows of one batch.", labels=base)
        batches.add_metric(self._labels, *self._batch_rows.buckets())
        yield batches
        yield self._counter_of(
            "nimbusguard_feature_events", "Values clipped, imputed or refused.",
            ["feature", "event"], self._features,
        )  # fmt: skip
        yield from self._features_seen()
        yield self._counter_of(
            "nimbusguard_decisions", "Decisions by action and model version.",
            ["action", "model_version"], self._actions,
        )  # fmt: skip
        non_finite = CounterMetricFamily(
            "nimbusguard_non_finite_outputs",
            "Forward passes that gave NaN or infinity.",
            labels=base,
        )
        non_finite.add_metric(self._labels, self._non_finite)
        yield non_finite
        state = self.snapshot()
        for name, text, value in (
            ("nimbusguard_ready", "1 while the model answers.", float(state.ready)),
            ("nimbusguard_queue_requests", "Requests that wait for a batch.", float(state.waiting)),
        ):
            gauge = GaugeMetricFamily(name, text, labels=base)
            gauge.add_metric(self._labels, value)
            yield gauge
        build = GaugeMetricFamily(
            "nimbusguard_build_info", "1, with the version of the program.",
            labels=["component", "version"],
        )  # fmt: skip
        build.add_metric([self._labels[0], __version__], 1.0)
        yield build
        info = GaugeMetricFamily(
            "nimbusguard_model_info", "1, with the version that answers and its fingerprint.",
            labels=[*base, "model_version", "fingerprint"],
        )  # fmt: skip
        info.add_metric([*self._labels, state.model_version, state.fingerprint], 1.0)
        yield info

    def _features_seen(self) -> Iterator[Metric]:
        """What came in, and how clear the choices were."""
        labels = ["component", "model_name", "feature"]
        last = GaugeMetricFamily(
            "nimbusguard_feature_value", "Raw value of a feature in the last row.", labels=labels
        )
        for row in self._last_rows[-1:].tolist():
            for feature, value in zip(NAMES, row, strict=True):
                last.add_metric([*self._labels, feature], value)
        yield last
        states = HistogramMetricFamily(
            "nimbusguard_feature_state", "Normalized value of a feature, 0 to 1.", labels=labels
        )
        for feature, counted in zip(NAMES, self._states.buckets(), strict=True):
            states.add_metric([*self._labels, feature], *counted)
        yield states
        margins = HistogramMetricFamily(
            "nimbusguard_q_margin",
            "Q-value of the choice minus that of the next best allowed action.",
            labels=labels[:2],
        )
        for counted in self._margins.buckets():
            margins.add_metric(self._labels, *counted)
        yield margins

    def _latency(self) -> dict[str, list[Distribution]]:
        """How long answers took, by route."""
        routes: dict[str, list[Distribution]] = {}
        for (route, _), answered in self._answered.items():
            routes.setdefault(route, []).append(answered)
        return routes

    def _histograms(
        self, name: str, text: str, label: str, values: Mapping[str, Sequence[Distribution]]
    ) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, text, labels=["component", "model_name", label])
        for key, distributions in values.items():
            family.add_metric([*self._labels, key], *merged(distributions))
        return family

    def _counter_of(
        self, name: str, text: str, labels: list[str], values: dict[tuple[str, str], int]
    ) -> CounterMetricFamily:
        family = CounterMetricFamily(name, text, labels=["component", "model_name", *labels])
        for pair, amount in values.items():
            family.add_metric([*self._labels, *pair], amount)
        return family


def _counts(actions: NDArray[np.int64]) -> list[int]:
    """How often each action was chosen."""
    counts: list[int] = np.bincount(actions, minlength=len(ACTION_NAMES)).tolist()
    return counts
