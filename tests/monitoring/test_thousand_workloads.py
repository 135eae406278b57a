"""A scrape of an operator with a thousand workloads: how long it takes and how large it is."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from autoscaler.metrics import OperatorMetrics
from tests.autoscaler.test_status import evaluation
from tests.live.processes import wait_until
from tests.standin.process import operator as operator_before
from tests.standin.process import stand_ins

WORKLOADS = 1_000
SERIES = 16
"""Of each workload: eleven features, what it asks for, and four more."""
MAX_BYTES = 10_000_000
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def test_a_thousand_workloads_are_under_ten_megabytes() -> None:
    """Each with every series that it can have, in the longer of the two formats."""
    metrics = OperatorMetrics(CollectorRegistry())
    for number in range(WORKLOADS):
        metrics.saw_evaluation(evaluation(name=f"workload-{number}"))
    encode, _ = choose_encoder(OPENMETRICS)

    text = encode(metrics.registry)

    lines = [line for line in text.decode().splitlines() if "workload-" in line]
    assert len(lines) == WORKLOADS * SERIES
    assert len(text) < MAX_BYTES


def test_a_policy_that_is_gone_leaves_no_series() -> None:
    """Labels are bounded by what there is now, not by what there ever was."""
    metrics = OperatorMetrics(CollectorRegistry())
    one = evaluation(name="gone")
    metrics.saw_evaluation(one)
    encode, _ = choose_encoder(OPENMETRICS)
    assert b"gone" in encode(metrics.registry)

    metrics.saw_removal(one.policy)

    assert b"gone" not in encode(metrics.registry)


@contextmanager
def operator(folder: Path) -> Iterator[str]:
    """An operator with a thousand policies before stand-ins; its address."""
    with stand_ins(WORKLOADS) as environment:
        process, url = operator_before(environment, folder / "operator.jsonl")
        try:
            yield url
        finally:
            process.end()


def scrape(url: str) -> bytes:
    request = urllib.request.Request(f"{url}/metrics", headers={"accept": OPENMETRICS})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        body: bytes = answer.read()
        return body


@pytest.mark.slow
@pytest.mark.service
def test_a_running_operator_is_scraped_within_a_second(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    """Ten scrapes while it decides for a thousand workloads; nobody's turn comes late for it."""
    with operator(tmp_path) as url:
        wait_until(
            "every workload was evaluated",
            lambda: scrape(url).count(b"nimbusguard_workload_action{") == WORKLOADS,
            60,
        )
        took, sizes = [], []
        for _ in range(10):
            began = time.perf_counter()
            sizes.append(len(scrape(url)))
            took.append(time.perf_counter() - began)

    record_property("slowest_s", round(max(took), 3))
    record_property("bytes", max(sizes))
    assert max(took) < 1.0
    assert max(sizes) < MAX_BYTES
