"""The operator's export in the data set: copied as it came, by day, and only what is one."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from autoscaler.export import SCHEMA
from nimbusguard.cli import main
from nimbusguard.client.prometheus import PrometheusSettings
from nimbusguard.contract.errors import InvalidRequest, MetricsUnavailable
from training.collect import CollectPlan, collect
from training.dataset import EXPERIENCE, read_samples
from training.measured import read_arrivals
from training.prepare import Rule, prepare
from training.range_query import MAX_POINTS, RangeClient, Span, span_before, workload_named

BEGIN_S = 1_780_000_020 // 86_400 * 86_400
SPAN = Span(begin_s=BEGIN_S, end_s=BEGIN_S + 2 * 86_400, step_s=60)
NOTHING = {"status": "success", "data": {"resultType": "matrix", "result": []}}


def client(answer: dict[str, Any] = NOTHING, status: int = 200) -> RangeClient:
    """A Prometheus that always says the same."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=answer))
    settings = PrometheusSettings(endpoint="http://user:secret@prometheus:9090")
    return RangeClient(settings, transport=transport)


def decision(second: int) -> dict[str, Any]:
    """A decision that the operator recorded at a second of the range."""
    return {
        "decision_id": f"d-{second}",
        "policy": "shop/web",
        "target": "Deployment/web",
        "decided_at": datetime.fromtimestamp(BEGIN_S + second, UTC),
        "interval_s": 15.0,
        "mode": "act",
        "arm": "stable",
        "raw": [0.5] * 11,
        "allowed": [True] * 5,
        "action": 2,
        "propensity": 1.0,
        "source": "kserve",
        "fingerprint": "sha256:x",
        "current_replicas": 4,
        "target_replicas": 4,
        "applied": True,
        "asked": "kserve",
        "guard": [],
    }


def exported(folder: Path, *seconds: int) -> str:
    """A folder as `nimbusguard experience export` leaves it."""
    folder.mkdir()
    table = pa.Table.from_pylist([decision(second) for second in seconds], schema=SCHEMA)
    parquet.write_table(table, folder / "experience-000000000001-000000000009.parquet")
    return str(folder)


def test_decisions_of_the_range_are_copied_by_day_as_they_were_exported(tmp_path: Path) -> None:
    """What lies before or after is left out; null outcomes stay null."""
    source = exported(tmp_path / "export", -60, 0, 3600, 86_400, 2 * 86_400)

    manifest = collect(tmp_path / "data", client(), CollectPlan(span=SPAN, experience=source))

    days = sorted((tmp_path / "data" / "experience").iterdir())
    tables = [parquet.read_table(next(day.iterdir()), partitioning=None) for day in days]
    assert manifest["experience"]["rows"] == 3
    assert [table.column("decision_id").to_pylist() for table in tables] == [
        ["d-0", "d-3600"],
        ["d-86400"],
    ]
    assert tables[0].schema.remove_metadata() == SCHEMA
    assert tables[0].column("reward").null_count == 2


def test_what_training_asks_of_an_export_is_what_the_operator_writes() -> None:
    """Names and types of the columns, kept equal here because neither imports the other."""
    assert {name: SCHEMA.field(name).type for name in EXPERIENCE} == dict(EXPERIENCE)


def test_a_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    """With its name and the column."""
    folder = tmp_path / "export"
    folder.mkdir()
    parquet.write_table(pa.table({"decision_id": [1]}), folder / "experience-1-1.parquet")

    with pytest.raises(InvalidRequest, match="with decision_id string, got int64"):
        collect(tmp_path / "data", client(), CollectPlan(span=SPAN, experience=str(folder)))


def test_a_prometheus_that_knows_nothing_gives_an_empty_data_set(tmp_path: Path) -> None:
    """It is finished, and says that it holds nothing; the endpoint's password is not in it."""
    manifest = collect(tmp_path, client(), CollectPlan(span=SPAN))

    assert (manifest["samples"]["rows"], manifest["workloads"]) == (0, [])
    assert manifest["prometheus"] == "http://prometheus:9090"
    assert read_samples(tmp_path).num_rows == 0


def test_an_empty_data_set_is_refused_or_left_out_by_the_rule(tmp_path: Path) -> None:
    """`require` names what is missing; `report` trains on the shipped traces alone and says so."""
    collect(tmp_path / "data", client(), CollectPlan(span=SPAN))

    with pytest.raises(InvalidRequest, match="got no samples of any workload"):
        prepare(tmp_path / "data", tmp_path / "refused", Rule.REQUIRE)
    report = prepare(tmp_path / "data", tmp_path / "reported", Rule.REPORT)

    assert report["trained_on"] == ["shipped traces"]
    assert read_arrivals(tmp_path / "reported" / "arrivals.json") == []


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"status": "error", "error": "query timed out"}, 503),
        ({"status": "success", "data": {"resultType": "vector", "result": []}}, 200),
        ([], 200),
    ],
)
def test_an_answer_that_is_no_matrix_stops_the_collection(
    tmp_path: Path, answer: Any, status: int
) -> None:
    """And leaves no manifest."""
    with pytest.raises(MetricsUnavailable, match="prometheus:9090"):
        collect(tmp_path, client(answer, status), CollectPlan(span=SPAN))

    assert not (tmp_path / "manifest.json").exists()


@given(
    end_s=st.floats(min_value=1e9, max_value=2e9),
    hours=st.floats(min_value=0.01, max_value=1000.0),
    step_s=st.sampled_from([1, 5, 15, 60]),
    chunk_s=st.sampled_from([3600, 7200, 21_600, 86_400]),
)
def test_chunks_cover_every_step_once_within_prometheus_limit(
    end_s: float, hours: float, step_s: int, chunk_s: int
) -> None:
    """No step twice, none left out, none across a day, never more points than it returns."""
    span = span_before(end_s, hours, step_s)
    if chunk_s // step_s > MAX_POINTS:
        with pytest.raises(InvalidRequest, match="chunk: expected"):
            span.chunks(chunk_s)
        return

    chunks = span.chunks(chunk_s)

    assert chunks[0].begin_s == span.begin_s
    assert chunks[-1].end_s == span.end_s
    assert all(one.end_s == two.begin_s for one, two in pairwise(chunks))
    assert sum(chunk.steps for chunk in chunks) == span.steps
    assert all(chunk.steps <= MAX_POINTS for chunk in chunks)
    assert all(each.begin_s // 86_400 == (each.end_s - 1) // 86_400 for each in chunks)


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf")])
def test_hours_that_are_none_are_refused(hours: float) -> None:
    """They are not taken for the default, nor for a single step."""
    with pytest.raises(InvalidRequest, match="hours: expected a number above 0"):
        span_before(1e9, hours, 15)
    arguments = ["collect", "--prometheus", "http://127.0.0.1:9", f"--hours={hours}"]
    assert main(arguments) == 1


@pytest.mark.parametrize("text", ["web", ""])
def test_a_workload_without_its_namespace_is_refused(text: str) -> None:
    """A name alone may be two workloads."""
    assert workload_named("shop/web") == ("shop", "web")
    with pytest.raises(InvalidRequest, match="workload: expected NAMESPACE/NAME"):
        workload_named(text)


def test_a_name_that_is_none_never_reaches_promql(tmp_path: Path) -> None:
    """As everywhere else."""
    plan = CollectPlan(span=SPAN, workloads=(('shop"} or {', "web"),))

    with pytest.raises(InvalidRequest, match="DNS-1123"):
        collect(tmp_path, client(), plan)
