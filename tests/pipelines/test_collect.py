"""Collection from a real Prometheus whose history is damaged in every known way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from nimbusguard.cli import main
from nimbusguard.client.prometheus import PrometheusSettings
from nimbusguard.contract.errors import (
    ArtifactCorrupted,
    InvalidRequest,
    MetricsUnavailable,
    NotFound,
)
from nimbusguard.contract.features import INDEX, NAMES
from tests.pipelines.history import (
    END_S,
    SERVICE_TIME_S,
    STARTUP_S,
    STEP_S,
    day,
    open_metrics,
    prometheus,
)
from training.collect import CollectPlan, collect
from training.dataset import read_manifest, read_samples
from training.inspection import courses, gaps
from training.measured import read_arrivals
from training.prepare import Rule, prepare
from training.range_query import MAX_POINTS, RangeClient, Span

pytestmark = pytest.mark.service
HOURS = 8
STEPS = HOURS * 240
SPAN = Span(begin_s=END_S - HOURS * 3600, end_s=END_S, step_s=STEP_S)
PLAN = CollectPlan(span=SPAN, workloads=(("shop", "web"),), chunk_s=7200)


def gathered(folder: Path, url: str, plan: CollectPlan = PLAN) -> dict[str, Any]:
    with RangeClient(PrometheusSettings(endpoint=url, deadline_s=30.0)) as client:
        return collect(folder, client, plan)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set without a flaw."""
    folder = tmp_path_factory.mktemp("healthy")
    with prometheus(folder / "prometheus", open_metrics(day(HOURS))) as history:
        gathered(folder / "data", history.url)
    return folder / "data"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 % gaps, duplicates, two counter resets, and a feature that vanished half-way."""
    folder = tmp_path_factory.mktemp("damaged")
    columns = day(HOURS)
    for values in columns.values():
        values[300:876] = np.nan
    columns["node_utilization"][STEPS // 2 :] = np.nan
    second = columns["request_rate"].copy()
    second[1500:1600] += 7.0
    text = open_metrics(columns, resets=(1000, 1700), replicas={"request_rate": second})
    with prometheus(folder / "prometheus", text) as history:
        gathered(folder / "data", history.url)
    return folder / "data"


def test_what_was_recorded_arrives_as_it_was(healthy: Path) -> None:
    """Every step, every feature, to the last digit; partitioned by day."""
    (course,) = courses(read_samples(healthy), SPAN)

    for name, values in day(HOURS).items():
        assert np.array_equal(course.values[:, INDEX[name]], values), name
    assert {path.parent.name[:5] for path in healthy.glob("samples/*/*.parquet")} == {"date="}


def test_a_healthy_data_set_says_so(healthy: Path) -> None:
    """No gap, no reset, nothing vanished; queries, range and digests are there."""
    manifest = read_manifest(healthy)
    (workload,) = manifest["workloads"]

    assert workload["gap_ratio"] == 0.0
    assert workload["counter_resets"] == 0
    assert workload["vanished_features"] == workload["gaps"] == []
    assert manifest["samples"]["rows"] == manifest["samples"]["steps"] == STEPS
    assert manifest["queries"].keys() == {"features", "counter_resets", "startup_s"}
    assert all(len(record["sha256"]) == 64 for record in manifest["samples"]["files"])


def test_the_generators_figures_are_read_off_a_healthy_data_set(
    healthy: Path, tmp_path: Path
) -> None:
    """Service time and start-up as they were put in, and the arrivals as one window."""
    report = prepare(healthy, tmp_path, Rule.REQUIRE)
    (workload,) = report["workloads"]
    (window,) = read_arrivals(tmp_path / "arrivals.json")

    assert workload["service_time_s"] == pytest.approx(SERVICE_TIME_S)
    assert workload["startup_s"] == STARTUP_S
    assert workload["outside_training_ranges"] == []
    assert window.load * window.peak_rate == pytest.approx(day(HOURS)["request_rate"])


def test_a_damaged_data_set_names_every_flaw(damaged: Path) -> None:
    """Gaps with their times and reasons, duplicates of both kinds, restarts, the lost feature."""
    manifest = read_manifest(damaged)
    (workload,) = manifest["workloads"]

    assert manifest["samples"]["duplicates_conflicting"] == 100
    assert manifest["samples"]["duplicates_equal"] == STEPS - 576 - 100
    assert workload["counter_resets"] == 2
    assert workload["vanished_features"] == ["node_utilization"]
    assert workload["gaps"][0] == {
        "begin_s": SPAN.begin_s + 300 * STEP_S,
        "end_s": SPAN.begin_s + 876 * STEP_S,
        "reason": "no samples",
    }
    assert workload["gaps"][1]["reason"] == "missing node_utilization"
    assert workload["gap_ratio"] == pytest.approx(1.0 - (300 + 960 - 876) / STEPS)


def test_conflicting_duplicates_count_as_absent(damaged: Path) -> None:
    """Of two different numbers for one moment neither is believed."""
    (course,) = courses(read_samples(damaged), SPAN)
    column = INDEX["request_rate"]

    assert not course.present[1500:1600, column].any()
    assert course.present[1400:1500, column].all()


def test_training_refuses_a_data_set_by_the_written_rule(damaged: Path, tmp_path: Path) -> None:
    """The feature that vanished and the missing steps are both named, and nothing is trained on."""
    with pytest.raises(InvalidRequest) as refusal:
        prepare(damaged, tmp_path, Rule.REQUIRE)

    assert "vanished before the end: node_utilization" in str(refusal.value)
    assert "20% of the steps are usable, less than 50%" in str(refusal.value)
    assert not (tmp_path / "arrivals.json").exists()


def test_training_that_goes_on_without_the_data_says_so(damaged: Path, tmp_path: Path) -> None:
    """The other rule: the shipped traces alone, with the reasons in the report."""
    report = prepare(damaged, tmp_path, Rule.REPORT)

    assert report["trained_on"] == ["shipped traces"]
    assert len(report["workloads"][0]["refused"]) == 2
    assert read_arrivals(tmp_path / "arrivals.json") == []


def test_thirty_percent_gaps_alone_are_gone_around(tmp_path: Path) -> None:
    """Two hours between gap and restart are learnt from, the shorter rest is not."""
    columns = day(HOURS)
    for values in columns.values():
        values[300:876] = np.nan
    with prometheus(tmp_path / "prometheus", open_metrics(columns, resets=(1500,))) as history:
        gathered(tmp_path / "data", history.url)

    report = prepare(tmp_path / "data", tmp_path / "prepared", Rule.REQUIRE)
    windows = read_arrivals(tmp_path / "prepared" / "arrivals.json")

    assert [len(window.load) for window in windows] == [1500 - 876]
    assert report["windows"] == [windows[0].name]


def test_a_collection_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Finished chunks are not asked for again; a half-written one is written anew."""
    with prometheus(tmp_path / "prometheus", open_metrics(day(HOURS))) as history:
        counting = Counting(history.url, fail_after=7)
        with (
            RangeClient(
                PrometheusSettings(endpoint=history.url, deadline_s=30.0), transport=counting
            ) as client,
            pytest.raises(MetricsUnavailable),
        ):
            collect(tmp_path / "data", client, PLAN)
        finished = sorted((tmp_path / "data" / "samples").rglob("*.parquet"))
        finished[-1].with_name(".later.parquet.part").write_bytes(b"PAR1 half")
        before = {path: path.stat().st_mtime_ns for path in finished}
        with pytest.raises(NotFound, match="finished collection"):
            read_samples(tmp_path / "data")

        gathered(tmp_path / "data", history.url)

    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert read_samples(tmp_path / "data").num_rows == STEPS


class Counting(httpx.BaseTransport):
    """Lets so many requests through, then none."""

    def __init__(self, url: str, fail_after: int) -> None:
        self.inner = httpx.HTTPTransport()
        self.left = fail_after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.left -= 1
        if self.left < 0:
            message = "gone"
            raise httpx.ConnectError(message)
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


def test_the_limit_that_chunks_keep_is_prometheus_own(tmp_path: Path) -> None:
    """It answers a range of so many points, and refuses two more."""
    most = Span(begin_s=END_S - MAX_POINTS * STEP_S, end_s=END_S, step_s=STEP_S)
    more = Span(begin_s=most.begin_s - 2 * STEP_S, end_s=END_S, step_s=STEP_S)
    columns = {name: values[:240] for name, values in day(HOURS).items()}
    with prometheus(tmp_path / "prometheus", open_metrics(columns)) as history:
        settings = PrometheusSettings(endpoint=history.url, deadline_s=30.0)
        with RangeClient(settings) as client:
            found = client.query("nimbusguard:pod_count", most)
            with pytest.raises(MetricsUnavailable, match="exceeded maximum resolution of 11,000"):
                client.query("nimbusguard:pod_count", more)

    assert [len(series["values"]) for series in found] == [240]


def test_a_chunk_that_was_changed_is_not_read(healthy: Path, tmp_path: Path) -> None:
    """The digest of the manifest holds."""
    copy = tmp_path / "data"
    for path in healthy.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(healthy)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(healthy)).write_bytes(path.read_bytes())
    chunk = next(copy.rglob("*.parquet"))
    chunk.write_bytes(chunk.read_bytes()[:-100])

    with pytest.raises(ArtifactCorrupted, match="expected SHA-256"):
        read_samples(copy)


def test_another_plan_needs_another_folder(healthy: Path) -> None:
    """Two ranges are never mixed in one data set."""
    other = CollectPlan(span=SPAN, workloads=(("shop", "api"),), chunk_s=7200)

    with pytest.raises(InvalidRequest, match="name another folder"):
        gathered(healthy, "http://127.0.0.1:9", other)


def test_the_command_collects_every_workload_and_prints_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nimbusguard collect`, and again: the second time without a query."""
    columns = {name: values[:240] for name, values in day(HOURS).items()}
    out = str(tmp_path / "data")
    with prometheus(tmp_path / "prometheus", open_metrics(columns)) as history:
        arguments = ["collect", "--prometheus", history.url, "--out", out, "--hours", "1"]
        assert main([*arguments, "--end", str(END_S)]) == 0
    assert main(["collect", "--prometheus", "http://127.0.0.1:9", "--out", out]) == 0

    assert "shop/web: 240 usable rows, gaps 0.0%" in capsys.readouterr().out
    plan = orjson.loads((tmp_path / "data" / "plan.json").read_bytes())
    assert plan["span"]["end_s"] == END_S
    assert gaps(next(courses(read_samples(tmp_path / "data"), Span(**plan["span"]))), SPAN) == []
    assert set(read_samples(tmp_path / "data").column_names) >= set(NAMES)
