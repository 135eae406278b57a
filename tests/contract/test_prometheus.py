"""Prometheus' answers as raw features: every form that is understood, and every one refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX, NAMES, STATE_DIM
from nimbusguard.contract.prometheus import (
    parse_instant_answer,
    read_instant_answer,
    split_instant_answer,
    unknown_workload,
)

WEB = {"namespace": "shop", "workload": "web"}


def series(name: str, value: Any, **labels: str) -> dict[str, Any]:
    metric = {"__name__": f"nimbusguard:{name}", **(labels or WEB)}
    return {"metric": metric, "value": [1755900000.123, value]}


def answer(*result: Any, **others: Any) -> dict[str, Any]:
    data = {"resultType": "vector", "result": list(result)}
    return {"status": "success", "data": data, **others}


def full(**values: str) -> dict[str, Any]:
    texts = {name: str(index) for index, name in enumerate(NAMES)} | values
    return answer(*(series(name, text) for name, text in texts.items()))


def refusal(document: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse_instant_answer(document, "instance 3")
    return str(caught.value)


def test_a_recorded_answer_becomes_a_row_in_the_order_of_the_table() -> None:
    """Whatever the order of the series, the row has the order of the state."""
    document = full()
    document["data"]["result"].reverse()

    row = parse_instant_answer(document, "instance 0")

    assert row.dtype == np.float64
    assert row.tolist() == [float(index) for index in range(STATE_DIM)]


def test_the_label_feature_names_a_series_too() -> None:
    """A query that drops the name, as every function but last_over_time does, can label it."""
    document = answer({"metric": {"feature": "pod_count"}, "value": [0, "4"]})

    assert parse_instant_answer(document, "instance 0")[INDEX["pod_count"]] == 4.0


def test_a_feature_without_a_series_is_absent() -> None:
    """Absent is NaN; what that means is decided by the table, not here."""
    row = parse_instant_answer(answer(series("pod_count", "4")), "instance 0")

    assert np.isnan(np.delete(row, INDEX["pod_count"])).all()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("-0.5", -0.5),
        ("1.5e-07", 1.5e-7),
        ("1e+06", 1e6),
        ("+Inf", math.inf),
        ("Inf", math.inf),
        ("-Inf", -math.inf),
        ("1" + "0" * 308, 1e308),
        (0.25, 0.25),
        (3, 3.0),
    ],
)
def test_a_sample_is_read_as_prometheus_writes_it(text: str | float, value: float) -> None:
    """Decimal with or without exponent, and the infinities; -Inf is left to the table to refuse."""
    row = parse_instant_answer(answer(series("queue_depth", text)), "instance 0")

    assert row[INDEX["queue_depth"]] == value


def test_nan_is_absent() -> None:
    """A histogram_quantile over no requests is NaN: there is no value."""
    row = parse_instant_answer(full(response_time_p95="NaN"), "instance 0")

    assert np.isnan(row[INDEX["response_time_p95"]])


@given(st.lists(st.floats(width=64), min_size=STATE_DIM, max_size=STATE_DIM))
def test_every_float_survives_the_way_through_an_answer(values: list[float]) -> None:
    """The shortest text of a float, which is what Prometheus writes, is read back exactly."""
    texts = {
        name: {math.inf: "+Inf", -math.inf: "-Inf"}.get(
            value, "NaN" if value != value else repr(value)
        )
        for name, value in zip(NAMES, values, strict=True)
    }

    row = parse_instant_answer(full(**texts), "instance 0")

    np.testing.assert_array_equal(row, np.array(values))


def test_warnings_and_infos_are_no_error() -> None:
    """Prometheus adds them to good answers, as for a rate over a gauge."""
    document = full() | {"warnings": ["slow"], "infos": ["metric might not be a counter"]}

    assert parse_instant_answer(document, "instance 0")[0] == 0.0


def test_the_workload_is_told_where_the_series_say_it() -> None:
    """Both labels on any of the series; without them it is unknown."""
    named = read_instant_answer(full(), "instance 0")
    unnamed = read_instant_answer(answer(series("pod_count", "4", other="x")), "instance 0")

    assert named.workload == ("shop", "web")
    assert unnamed.workload is None


REFUSED: dict[str, tuple[Any, str]] = {
    "null": (None, "prometheus: expected an object, got null"),
    "a number": (7, "prometheus: expected an object, got 7"),
    "a list": ([1, 2], "prometheus: expected an object, got [1, 2]"),
    "the data alone": (full()["data"], "prometheus.status: expected 'success', got null"),
    "a query that failed": (
        {"status": "error", "errorType": "bad_data", "error": "1:3: parse error"},
        "expected an answer, got the error 'bad_data': '1:3: parse error'",
    ),
    "another status": ({"status": "ok"}, "prometheus.status: expected 'success', got 'ok'"),
    "no data": ({"status": "success"}, "prometheus.data: expected an object, got null"),
    "a range": (
        {"status": "success", "data": {"resultType": "matrix", "result": []}},
        "prometheus.data.resultType: expected 'vector', got 'matrix'",
    ),
    "a scalar": (
        {"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}},
        "prometheus.data.resultType: expected 'vector', got 'scalar'",
    ),
    "no result": (
        {"status": "success", "data": {"resultType": "vector"}},
        "prometheus.data.result: expected an array, got null",
    ),
    "an empty result": (
        answer(),
        "prometheus.data.result: expected series named nimbusguard:<feature>, got none",
    ),
    "a series that is none": (answer(5), 'prometheus.data.result[0]: expected {"metric"'),
    "a series without labels": (answer({"value": [0, "1"]}), "got an object with 'value'"),
    "a series without a name": (
        answer({"metric": WEB, "value": [0, "1"]}),
        "prometheus.data.result[0].metric: expected __name__ = 'nimbusguard:<feature>' or a label "
        "'feature', got an object with 'namespace', 'workload'",
    ),
    "another metric": (
        answer({"metric": {"__name__": "up"}, "value": [0, "1"]}),
        "expected __name__ = 'nimbusguard:<feature>'",
    ),
    "an unknown feature": (
        answer(series("cpu_usage", "1")),
        "prometheus.data.result[0]: unknown feature 'cpu_usage'; expected cpu_utilization, ",
    ),
    "an unknown label": (
        answer({"metric": {"feature": "nimbusguard:pod_count"}, "value": [0, "1"]}),
        "unknown feature 'nimbusguard:pod_count'",
    ),
    "two names": (
        answer(series("pod_count", "1", feature="queue_depth")),
        "named 'nimbusguard:pod_count' but labelled feature='queue_depth'",
    ),
    "a name that is no string": (
        answer({"metric": {"__name__": 5}, "value": [0, "1"]}),
        "prometheus.data.result[0].metric.__name__: expected a string, got 5",
    ),
    "a feature twice": (
        answer(series("pod_count", "1"), series("pod_count", "2")),
        "prometheus: pod_count: expected one series, got two",
    ),
    "two workloads": (
        answer(
            series("pod_count", "1", **WEB),
            series("queue_depth", "2", namespace="shop", workload="api"),
        ),
        "prometheus: expected the series of one workload, got workload 'web' and 'api'",
    ),
    "two namespaces": (
        answer(
            series("pod_count", "1", **WEB),
            series("queue_depth", "2", namespace="test", workload="web"),
        ),
        "prometheus: expected the series of one workload, got namespace 'shop' and 'test'",
    ),
    "a native histogram": (
        answer({"metric": {"feature": "pod_count"}, "histogram": [0, {"count": "1"}]}),
        'prometheus.data.result[0] (pod_count): expected one sample, "value": [time, "number"], '
        "got a native histogram",
    ),
    "a range of samples": (
        answer({"metric": {"feature": "pod_count"}, "values": [[0, "1"]]}),
        "got an object with 'metric', 'values'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_answer_is_refused_with_its_place_and_what_came(case: str) -> None:
    """The message begins with the instance and says what was expected."""
    document, fragment = REFUSED[case]

    message = refusal(document)

    assert message.startswith("instance 3: ")
    assert fragment in message


@pytest.mark.parametrize(
    "sample",
    [
        None,
        "1",
        [],
        [0],
        [0, "1", "2"],
        {"0": "1"},
        [None, "1"],
        ["0", "1"],
        [True, "1"],
        [math.inf, "1"],
        [0, None],
        [0, True],
        [0, ""],
        [0, " 1"],
        [0, "1 "],
        [0, "1\n"],
        [0, "nan"],
        [0, "inf"],
        [0, "Infinity"],
        [0, "1_000"],
        [0, "0x10"],
        [0, "\N{ARABIC-INDIC DIGIT ONE}"],
        [0, "1,5"],
        [0, "--1"],
        [0, "9" * 401],
        [0, 10**400],
        [0, math.nan],
        [0, math.inf],
        [0, ["1"]],
        [0, {"value": "1"}],
    ],
    ids=repr,
)
def test_a_malformed_sample_is_refused(sample: Any) -> None:
    """Only what Prometheus writes is read: Python's own reading of text is more generous."""
    document = answer({"metric": {"feature": "error_rate"}, "value": sample})

    message = refusal(document)

    assert message.startswith(
        'instance 3: prometheus.data.result[0] (error_rate).value: expected [time, "number"], got '
    )


def test_a_message_stays_short_however_large_the_answer_is() -> None:
    """What came is shown one level deep and cut: a body of megabytes must not come back."""
    nested: Any = "deep"
    for _ in range(5000):
        nested = [nested]

    messages = [
        refusal(nested),
        refusal({"status": "x" * 10**6}),
        refusal({"status": "error", "errorType": nested, "error": "y" * 10**6}),
        refusal(answer({"metric": {"z" * 10**6: "1"}, "value": [0, "1"]})),
        refusal(answer({"metric": {"feature": "pod_count"}, "value": [0, nested, nested]})),
    ]

    assert max(map(len, messages)) < 600


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["status", "data", "resultType", "result", "metric", "value", "__name__", "feature"]
            ),
            inner | st.sampled_from(["success", "vector", "nimbusguard:pod_count", "error_rate"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


def read_or_refused(document: Any) -> bool:
    """False if it was neither: any other exception passes through and fails the test."""
    try:
        row = parse_instant_answer(document, "instance 0")
    except InvalidRequest as error:
        return str(error).startswith("instance 0: ")
    return row.shape == (STATE_DIM,) and not np.isnan(row).all()


@given(json_values)
def test_any_json_is_read_or_refused(document: Any) -> None:
    """No input raises anything but InvalidRequest."""
    assert read_or_refused(document)


@given(json_values)
def test_any_result_in_a_good_envelope_is_read_or_refused(entry: Any) -> None:
    """The same, one level further in."""
    assert read_or_refused(answer(series("pod_count", "1"), entry))


def test_an_answer_for_many_workloads_is_split() -> None:
    """One row a workload, those without series left out."""
    document = answer(
        series("pod_count", "1", namespace="shop", workload="web"),
        series("pod_count", "2", namespace="shop", workload="api"),
        series("queue_depth", "3", namespace="test", workload="web"),
    )

    rows = split_instant_answer(document, "batch")

    assert rows.keys() == {("shop", "web"), ("shop", "api"), ("test", "web")}
    assert rows["shop", "api"][INDEX["pod_count"]] == 2.0
    assert rows["test", "web"][INDEX["queue_depth"]] == 3.0
    assert np.isnan(rows["test", "web"][INDEX["pod_count"]])


def test_a_batch_without_any_series_is_empty() -> None:
    """Which of the workloads that matters to is the caller's to say."""
    assert split_instant_answer(answer(), "batch") == {}


@pytest.mark.parametrize(
    ("document", "fragment"),
    [
        (answer(series("pod_count", "1", namespace="shop")), "pod_count: expected the labels"),
        (answer(series("pod_count", "1", workload="web")), "pod_count: expected the labels"),
        (
            answer(series("pod_count", "1"), series("pod_count", "1")),
            "pod_count: expected one series, got two",
        ),
    ],
)
def test_a_batch_that_cannot_be_told_apart_is_refused(document: Any, fragment: str) -> None:
    """Every series must say whose it is, and only once."""
    with pytest.raises(InvalidRequest, match=fragment):
        split_instant_answer(document, "batch")


def test_a_workload_without_series_is_named() -> None:
    """The message says what to check."""
    message = str(unknown_workload("shop", "web", "instance 2"))

    assert message.startswith("instance 2: workload shop/web: expected series nimbusguard:")
