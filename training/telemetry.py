"""Figures of batch steps, pushed to a Pushgateway: a step is over before anybody could scrape it.

A gauge replaces what the same step pushed before. A counter lives in the gateway: the step reads
it, adds one and writes it back. Two runs that end in the same instant may count as one; pipelines
and searches take minutes, and `--persistence.file` keeps the counters over a restart of the
gateway. Without a gateway nothing is pushed. One that does not answer is reported on standard error
and never fails the step: hours of training are not thrown away for a figure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

TIMEOUT_S: Final = 5.0
PIPELINE_RUNS: Final = "nimbusguard_pipeline_runs"
TRAINING_DURATION: Final = "nimbusguard_model_training_duration_seconds"
MODEL_ACCURACY: Final = "nimbusguard_model_accuracy"
EXPERIMENTS: Final = "nimbusguard_hyperparameter_experiments"
HELP: Final[Mapping[str, str]] = {
    PIPELINE_RUNS: "Finished runs of the training pipeline, by outcome",
    TRAINING_DURATION: "Seconds that training and calibrating one seed took",
    MODEL_ACCURACY: "Share of validation decisions at which the candidate does as the oracle",
    EXPERIMENTS: "Finished hyper-parameter searches, by outcome",
}


class Pushgateway:
    """Where figures go; an empty address means nowhere."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """Nothing is sent yet; `transport` replaces the network."""
        self._url = url.rstrip("/")
        self._transport = transport

    def gauge(self, name: str, value: float, *, job: str, **labels: str) -> bool:
        """Replace a gauge of this job and these labels; whether it was taken."""
        return self._push(GaugeMetricFamily(name, HELP[name], value=value), job, labels)

    def count(self, name: str, *, job: str, outcome: str) -> bool:
        """Add one to a counter of this job and outcome; whether it was taken."""
        if not self._url:
            return False
        try:
            value = 1.0 + self._counted(f"{name}_total", job, outcome)
        except httpx.HTTPError as error:
            return _lost(self._url, error)
        family = CounterMetricFamily(name, HELP[name], value=value)
        return self._push(family, job, {"outcome": outcome})

    def _counted(self, name: str, job: str, outcome: str) -> float:
        with self._client() as client:
            page = client.get(f"{self._url}/metrics").raise_for_status().text
        wanted = {"job": job, "outcome": outcome}
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and wanted.items() <= sample.labels.items()
        )

    def _push(self, family: Metric, job: str, labels: Mapping[str, str]) -> bool:
        if not self._url:
            return False
        registry = CollectorRegistry()
        registry.register(_One(family))
        group = "".join(f"/{name}/{value}" for name, value in labels.items())
        try:
            with self._client() as client:
                # POST replaces the metrics of these names in the group and leaves its others.
                url = f"{self._url}/metrics/job/{job}{group}"
                client.post(url, content=generate_latest(registry)).raise_for_status()
        except httpx.HTTPError as error:
            return _lost(self._url, error)
        return True

    def _client(self) -> httpx.Client:
        return httpx.Client(transport=self._transport, trust_env=False, timeout=TIMEOUT_S)


class _One(Collector):
    """A registry's way to a single family; the client's own counters add their time of birth."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """The family."""
        yield self._family


def _lost(url: str, error: httpx.HTTPError) -> bool:
    sys.stderr.write(f"Pushgateway {url}: expected the figure to be taken, got {error}\n")
    return False
