"""`/metrics` is what prometheus_client would write, whoever writes it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from autoscaler.exposition import exposition

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ODD = 'a "quoted" \\ name\nof two lines, ü'


def registry(workloads: int) -> CollectorRegistry:
    """A gauge of so many workloads among metrics of other kinds."""
    made = CollectorRegistry()
    Counter("decisions", "Decisions.", ["action"], registry=made).labels("NO_ACTION").inc()
    load = Gauge("load", "Load of a workload.", ["workload", "feature"], registry=made)
    for number in range(workloads):
        load.labels(f"w{number}", ODD).set(number * 1e6 / 3.0)
    load.labels("none", "absent").set(float("nan"))
    load.labels("more", "than all").set(float("inf"))
    delay = Histogram("delay_seconds", "Delays.", registry=made)
    delay.observe(0.01, {"trace_id": "0af7651916cd43dd8448eb211c80319c"})
    return made


@pytest.mark.parametrize("workloads", [3, 1000])
@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain", ""])
def test_every_line_is_that_of_the_library(workloads: int, accept: str) -> None:
    """In both formats, with characters to escape, exemplars, and the end that OpenMetrics has."""
    made = registry(workloads)
    encode, content_type = choose_encoder(accept)

    body, kind = exposition(made, accept)

    expected = encode(made)
    assert kind == content_type
    assert sorted(body.splitlines()) == sorted(expected.splitlines())
    assert body.splitlines()[-1] == expected.splitlines()[-1] or accept != OPENMETRICS
    assert body.endswith(b"\n")
