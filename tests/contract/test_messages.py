"""The V1 wire forms: every form of the same row means the same, and nothing else gets through."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import NAMES
from nimbusguard.contract.messages import (
    FROM_POD_COUNT,
    MAX_REPLICAS_VALUE,
    MetricRows,
    RowOptions,
    WorkloadReference,
    describe,
    parse_metrics,
    parse_number,
    parse_states,
    refused_message,
)

DATA = Path(__file__).parents[1] / "data" / "v1"
LIMIT = 100
ROW = [0.93, 0.55, 120000, 85, 4, 0.31, 0.002, 12, 0.2, 0.6, 0.5]
NAMED = dict(zip(NAMES, ROW, strict=True))

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.lists(FINITE, min_size=11, max_size=11)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    FINITE,
    st.text(max_size=5),
    st.sampled_from(["NaN", "+Inf", "-Inf", "1e999", "0.5", "nimbusguard:cpu_utilization"]),
)
KEYS = st.sampled_from(
    [
        *NAMES,
        "instances",
        "prometheus",
        "workload",
        "current_replicas",
        "min_replicas",
        "max_replicas",
        "cluster_state",
        "namespace",
        "deployment",
        "status",
        "data",
        "resultType",
        "result",
        "metric",
        "value",
        "__name__",
        "feature",
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda part: st.one_of(
        st.lists(part, max_size=12), st.dictionaries(st.one_of(KEYS, st.text(max_size=3)), part)
    ),
    max_leaves=25,
)


def parse(instance: Any) -> MetricRows:
    return parse_metrics({"instances": [instance]}, max_rows=LIMIT)


def outcome(parse_body: Callable[..., Any], body: Any) -> tuple[Any, str]:
    """What was understood, or None and the reason."""
    try:
        return parse_body(body, max_rows=LIMIT), ""
    except InvalidRequest as refused:
        return None, str(refused)


def row_of(rows: MetricRows) -> list[float]:
    assert len(rows) == 1
    return [float(value) for value in rows.rows[0]]


def prometheus_of(values: list[float], label: str) -> dict[str, Any]:
    def metric(name: str) -> dict[str, str]:
        return {"feature": name} if label == "feature" else {"__name__": f"nimbusguard:{name}"}

    result = [
        {"metric": metric(name), "value": [1763913600, repr(value)]}
        for name, value in zip(NAMES, values, strict=True)
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@given(values=VALUES)
def test_every_form_of_a_row_means_the_same(values: list[float]) -> None:
    """Named, in order, as strings, from Prometheus by name and by label, and the older form."""
    named = dict(zip(NAMES, values, strict=True))

    forms = [
        parse(values),
        parse(named),
        parse(dict(reversed(named.items()))),
        parse([repr(value) for value in values]),
        parse({name: repr(value) for name, value in named.items()}),
        parse({"prometheus": prometheus_of(values, "__name__")}),
        parse({"prometheus": prometheus_of(values, "feature")}),
        parse_metrics({"cluster_state": named}, max_rows=LIMIT),
    ]

    assert [row_of(rows) for rows in forms] == [values] * len(forms)
    assert all(not rows.lookups for rows in forms)


@pytest.mark.parametrize(
    "name", ["named", "array", "cluster-state", "prometheus", "options", "states"]
)
def test_the_payload_files_hold_the_same_row(name: str) -> None:
    """Each file of `tests/data/v1` is one good request."""
    body = json.loads((DATA / f"{name}.json").read_text())

    if name == "states":
        assert len(parse_states(body, max_rows=LIMIT)) == 1
    else:
        assert row_of(parse_metrics(body, max_rows=LIMIT)) == pytest.approx(ROW)


@pytest.mark.parametrize("absent", [None, "NaN", "nan", "-nan", " NaN "])
@pytest.mark.parametrize("feature", NAMES)
def test_null_nan_and_a_left_out_name_all_mean_absent(feature: str, absent: object) -> None:
    """What absence then means is not decided here."""
    left_out = {name: value for name, value in NAMED.items() if name != feature}
    place = NAMES.index(feature)

    for rows in (
        parse(NAMED | {feature: absent}),
        parse(left_out),
        parse([*ROW[:place], absent, *ROW[place + 1 :]]),
    ):
        row = row_of(rows)
        assert math.isnan(row[place])
        assert row[:place] + row[place + 1 :] == ROW[:place] + ROW[place + 1 :]


@pytest.mark.parametrize("word", ["Inf", "+Inf", "inf", "Infinity", "+infinity", "1e999"])
def test_positive_infinity_is_a_number(word: str) -> None:
    """It clips to the maximum later."""
    assert parse_number(word, "x") == math.inf


@pytest.mark.parametrize("word", ["-Inf", "-inf", "-Infinity", "-1e999"])
def test_negative_infinity_is_refused(word: str) -> None:
    """No metric means it."""
    with pytest.raises(InvalidRequest, match=r"x: expected a number above -Inf, got '-"):
        parse_number(word, "x")


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "high",
        "1_000",
        "0x10",
        "1,5",
        "71%",
        "\u0661",
        "\uff11",
        "9" * 401,
        "1e",
        True,
        [],
        {},
    ],
)
def test_anything_else_is_no_number(value: object) -> None:
    """Booleans, quantities, other scripts, and strings longer than any number is."""
    with pytest.raises(InvalidRequest, match=r"^x: expected a number, got "):
        parse_number(value, "x")


@given(
    current=st.integers(0, MAX_REPLICAS_VALUE),
    bounds=st.tuples(*[st.integers(0, MAX_REPLICAS_VALUE)] * 2).map(sorted),
)
def test_options_are_taken_from_every_form_that_has_room_for_them(
    current: int, bounds: list[int]
) -> None:
    """Beside named features, beside a Prometheus answer, beside and inside the older form."""
    options = {"current_replicas": current, "min_replicas": bounds[0], "max_replicas": bounds[1]}

    forms = [
        parse(NAMED | options),
        parse(NAMED | {key: str(value) for key, value in options.items()}),
        parse(NAMED | {key: float(value) for key, value in options.items()}),
        parse({"prometheus": prometheus_of(ROW, "feature")} | options),
        parse({"workload": {"namespace": "shop", "deployment": "web"}} | options),
        parse_metrics({"cluster_state": NAMED} | options, max_rows=LIMIT),
        parse_metrics({"cluster_state": NAMED | options}, max_rows=LIMIT),
    ]

    for rows in forms:
        assert rows.options[0][:3] == (current, *bounds)


def test_options_that_are_left_out_have_their_defaults() -> None:
    """The replica count comes from `pod_count`, the bounds are 1 and 50; null is left out too."""
    rows = parse(NAMED | {"min_replicas": 3, "max_replicas": None})

    assert rows.options == {0: RowOptions(FROM_POD_COUNT, 3, 50, None)}
    assert parse(NAMED).options == {}


@pytest.mark.parametrize("workload", ["shop/web", "", {"namespace": "shop", "replicas": 3}, {}])
def test_a_workload_is_kept_to_be_named_again(workload: object) -> None:
    """A string or a flat object, beside features."""
    assert parse(NAMED | {"workload": workload}).options[0].workload == workload


def test_a_reference_is_looked_up_in_its_place() -> None:
    """Rows keep their order, whether they bring their metrics or not."""
    reference = {"workload": {"namespace": "shop", "deployment": "web.v2"}}

    rows = parse_metrics({"instances": [ROW, reference, NAMED, reference]}, max_rows=LIMIT)

    assert len(rows) == 4
    assert set(rows.lookups) == {1, 3}
    assert rows.lookups[1] == WorkloadReference("shop", "web.v2")
    assert rows.options[1].workload == reference["workload"]


@pytest.mark.parametrize("count", [1, LIMIT])
def test_the_largest_number_of_rows_is_accepted(count: int) -> None:
    """And one more is refused, as is none at all."""
    assert len(parse_metrics({"instances": [ROW] * count}, max_rows=LIMIT)) == count
    with pytest.raises(InvalidRequest, match="at most 100 rows, got 101; send several requests"):
        parse_metrics({"instances": [ROW] * (LIMIT + 1)}, max_rows=LIMIT)
    with pytest.raises(InvalidRequest, match="at least one row, got none"):
        parse_metrics({"instances": []}, max_rows=LIMIT)


@given(body=JSON)
@example(body={"instances": [{"current_replicas": "Infinity"}]})
@example(body={"instances": [{"workload": {"a": {"b": {}}}}]})
@example(body={"cluster_state": {"cluster_state": {}}})
def test_whatever_json_comes_it_is_understood_or_refused_in_words(body: Any) -> None:
    """No input leads to any other error, and no accepted one to a row of another length."""
    for parse_body in (parse_metrics, parse_states):
        rows, reason = outcome(parse_body, body)
        assert len(reason) < 1500
        assert rows is None or 1 <= len(rows) <= LIMIT


@given(instance=st.dictionaries(KEYS, JSON, max_size=14))
def test_whatever_instance_comes_it_is_understood_or_refused_in_words(
    instance: dict[str, Any],
) -> None:
    """As above, closer to what is accepted; what is accepted has eleven numbers and sane bounds."""
    rows, reason = outcome(parse_metrics, {"instances": [instance]})

    if rows is None:
        assert reason.startswith("instance 0: ")
        return
    row = np.array(rows.rows[0], dtype=np.float64)
    assert row.shape == (11,)
    for options in rows.options.values():
        assert options.min_replicas <= options.max_replicas
        assert FROM_POD_COUNT <= options.current_replicas <= MAX_REPLICAS_VALUE


@given(states=st.lists(VALUES, min_size=1, max_size=5))
def test_states_are_rows_of_eleven_json_numbers(states: list[list[float]]) -> None:
    """They come out as they came; whether they lie in [0, 1] is seen where they are numbers."""
    assert parse_states({"instances": states}, max_rows=LIMIT) == states


@pytest.mark.parametrize("value", [None, True, "0.5", [], {}])
def test_a_state_holds_json_numbers_only(value: object) -> None:
    """A state is made by a transformer, so nothing is read into it."""
    with pytest.raises(InvalidRequest, match=r"instance 1: error_rate: expected a number in \[0,"):
        parse_states({"instances": [ROW, [*ROW[:6], value, *ROW[7:]]]}, max_rows=LIMIT)


@given(value=JSON)
def test_a_received_value_is_described_in_few_words(value: Any) -> None:
    """However large or deep it is."""
    assert 0 < len(describe(value)) < 300


def test_a_refused_feature_says_why_and_what_can_be_done() -> None:
    """Absence without traffic would have been 0, and an operator may declare it."""
    assert refused_message(3, 5, math.nan, 85.0) == (
        "instance 3: response_time_p95: expected a number, got absent or NaN while request_rate is "
        "85; it counts as 0 only without traffic, or with ABSENT_AS_ZERO=response_time_p95"
    )
    assert "request_rate is absent" in refused_message(0, 6, math.nan, math.nan)
    assert refused_message(0, 0, -math.inf, 1.0) == (
        "instance 0: cpu_utilization: expected a number above -Inf, got -Inf"
    )
