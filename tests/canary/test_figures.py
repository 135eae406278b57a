"""From Prometheus' answers to the arms of a judgement."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nimbusguard.canary.figures import Figures, arms_of
from nimbusguard.canary.plan import Kind
from nimbusguard.contract.errors import InvalidRequest, MetricsUnavailable
from nimbusguard.contract.features import STATE_DIM
from nimbusguard.policy.bounds import Histogram


def vector(*rows: tuple[dict[str, str], float | str]) -> dict[str, Any]:
    """An instant vector as Prometheus writes it."""
    result = [{"metric": labels, "value": [0, str(value)]} for labels, value in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def answers() -> dict[str, object]:
    """Version 2 serves well; version 3 fails now and then."""
    return {
        "info": vector(
            ({"model_version": "2", "fingerprint": "sha256:a"}, 1),
            ({"model_version": "3", "fingerprint": "sha256:b"}, 1),
        ),
        "requests": vector(
            ({"model_version": "2", "status": "200"}, 900.2),
            ({"model_version": "2", "status": "OK"}, 100.0),
            ({"model_version": "3", "status": "200"}, 90),
            ({"model_version": "3", "status": "500"}, 4.6),
            ({"model_version": "3", "status": "504"}, 1),
            ({"model_version": "3", "status": "INTERNAL"}, 1),
            ({"model_version": "3", "status": "503"}, 2),
            ({"model_version": "3", "status": "UNAVAILABLE"}, 1),
            ({"model_version": "3", "status": "400"}, 7),
            ({"model_version": "1", "status": "200"}, 5),
        ),
        "latency": vector(
            ({"model_version": "3", "le": "0.001"}, 40.4),
            ({"model_version": "3", "le": "0.0025"}, 40.3),
            ({"model_version": "3", "le": "+Inf"}, 100),
        ),
        "non_finite": vector(({"model_version": "3"}, 2)),
        "actions": vector(
            ({"model_version": "3", "action": "SCALE_UP_2"}, 60),
            ({"model_version": "3", "action": "NO_ACTION"}, "NaN"),
        ),
    }


def test_the_counts_of_each_version_that_serves_now_become_an_arm() -> None:
    """Errors, refusals and the caller's own mistakes are kept apart; version 1 is gone."""
    arms = arms_of(answers())

    assert arms.keys() == {"2", "3"}
    assert arms["2"].requests == 1000
    assert (arms["2"].errors, arms["2"].refused) == (0, 0)
    assert arms["3"].requests == 107
    assert (arms["3"].errors, arms["3"].refused, arms["3"].non_finite) == (7, 3, 2)
    assert arms["3"].fingerprint == "sha256:b"
    assert arms["3"].actions == (0, 0, 0, 0, 60)


def test_cumulative_buckets_become_counts_that_are_never_negative() -> None:
    """Each is extrapolated and rounded by itself, so one may be a little below the one before."""
    assert arms_of(answers())["3"].latency == Histogram((0.001, 0.0025), (40, 0, 60))


def test_a_version_without_a_request_has_an_empty_arm() -> None:
    """It serves, but nobody asked."""
    silent = {**answers(), "requests": vector(), "latency": vector(), "actions": vector()}

    assert arms_of(silent)["2"].requests == 0
    assert arms_of(silent)["2"].latency.total == 0


@pytest.mark.parametrize("broken", [None, {}, {"data": {"result": [{"metric": {}}]}}, "x"])
def test_an_answer_that_is_no_vector_is_prometheus_fault(broken: object) -> None:
    """Said as such, so that nobody takes it for a verdict."""
    with pytest.raises(MetricsUnavailable, match="instant vector"):
        arms_of({**answers(), "requests": broken})


@pytest.mark.parametrize(
    ("selector", "window"),
    [('namespace="a"}) or vector(1', "10m"), ("namespace", "10m"), ('namespace="a"', "10m]) or (")],
)
def test_nothing_gets_into_a_query_but_labels_and_a_duration(selector: str, window: str) -> None:
    """The values come from a command line."""
    with pytest.raises(InvalidRequest):
        Figures(kind=Kind.GRAPH, selector=selector, window=window)


@pytest.mark.parametrize("kind", Kind)
def test_every_query_is_valid_promql(kind: Kind, tmp_path: Path) -> None:
    """As Prometheus' own checker sees it."""
    figures = Figures(kind=kind, selector='namespace="a",job=~"b.*"', window="10m")
    rules = [
        {"record": f"checked:{name}", "expr": query} for name, query in figures.queries().items()
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "canary", "rules": rules}]}))

    checked = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
    assert "5 rules found" in checked.stdout


def test_the_series_are_those_that_the_servers_export() -> None:
    """Every metric and label that a query names stands in the servers' own collector."""
    from serving.metrics import Decided, ServingMetrics

    metrics = ServingMetrics("predictor", "m")
    metrics.observe_request("v2_infer", "200", 0.001)
    one_row = np.zeros((1, STATE_DIM), dtype=np.bool_)
    metrics.observe_decisions(Decided("2", np.array([2]), one_row, one_row))
    metrics.observe_margins(np.array([0.5]), 0.0)
    exported = {
        sample.name: set(sample.labels) for metric in metrics.collect() for sample in metric.samples
    }

    for query in Figures(kind=Kind.GRAPH, selector='job="x"', window="5m").queries().values():
        for name, matchers in re.findall(r"(nimbusguard_\w+)\{([^}]*)\}", query):
            asked = set(re.findall(r"(\w+)=", matchers)) - {"job"}
            assert asked <= exported[name], name
    assert {"status", "route"} <= exported["nimbusguard_model_serving_requests_total"]
    assert {"action", "model_version"} <= exported["nimbusguard_decisions_total"]
    assert {"model_version", "fingerprint"} <= exported["nimbusguard_model_info"]
