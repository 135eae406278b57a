"""The four kinds of instance and their wire form."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.client.instances import (
    Instance,
    NamedMetrics,
    PrometheusAnswer,
    RawVector,
    ReplicaBounds,
    Workload,
    WorkloadReference,
    encode,
)
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import NAMES

SHOP = Workload(namespace="shop", deployment="web")
BOUNDS = ReplicaBounds(current_replicas=4, min_replicas=2, max_replicas=9)


@pytest.mark.parametrize(
    ("instance", "wire"),
    [
        (
            NamedMetrics(metrics={"cpu_utilization": 0.7, "queue_depth": None}),
            {"cpu_utilization": 0.7, "queue_depth": None},
        ),
        (
            NamedMetrics(metrics={"pod_count": "4"}, replicas=BOUNDS, workload=SHOP),
            {
                "pod_count": "4",
                "current_replicas": 4,
                "min_replicas": 2,
                "max_replicas": 9,
                "workload": {"namespace": "shop", "deployment": "web"},
            },
        ),
        (RawVector(values=[0.5, 1, np.float32(2.5), np.int64(3)]), [0.5, 1, 2.5, 3]),
        (
            PrometheusAnswer(
                answer={"status": "success"}, replicas=ReplicaBounds(current_replicas=0)
            ),
            {"prometheus": {"status": "success"}, "current_replicas": 0},
        ),
        (
            WorkloadReference(workload=SHOP, replicas=ReplicaBounds(max_replicas=3)),
            {"workload": {"namespace": "shop", "deployment": "web"}, "max_replicas": 3},
        ),
    ],
)
def test_each_kind_has_its_wire_form(instance: Instance, wire: Any) -> None:
    """Only what was given is sent."""
    assert json.loads(encode([instance])) == {"instances": [wire]}


@given(st.lists(st.floats(), min_size=11, max_size=11))
def test_every_float_survives_the_wire(values: list[float]) -> None:
    """NaN becomes null, an infinity its Prometheus spelling, everything else itself."""
    wire = json.loads(encode([RawVector(values=np.array(values))]))["instances"][0]

    for sent, came in zip(values, wire, strict=True):
        if math.isnan(sent):
            assert came is None
        elif math.isinf(sent):
            assert came == ("+Inf" if sent > 0 else "-Inf")
        else:
            assert came == sent


@given(st.dictionaries(st.sampled_from(NAMES), st.floats()))
def test_named_and_raw_values_are_encoded_alike(metrics: dict[str, float]) -> None:
    """The same number has the same wire form in both kinds."""
    named = json.loads(encode([NamedMetrics(metrics=metrics)]))["instances"][0]
    raw = json.loads(encode([RawVector(values=list(metrics.values()))]))["instances"][0]

    assert list(named.values()) == raw


def test_no_instance_is_refused_before_it_is_sent() -> None:
    """An empty batch is a mistake of the caller."""
    with pytest.raises(InvalidRequest, match="instances: expected at least one, got none"):
        encode([])


def test_a_value_that_json_cannot_carry_is_refused() -> None:
    """The message says what it was."""
    with pytest.raises(InvalidRequest, match="values that JSON can carry"):
        encode([PrometheusAnswer(answer={"data": object()})])
