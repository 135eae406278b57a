"""What metrics and traces cost: the silent pair, the record and its page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import observability, results
from bench.measure import Options
from bench.observability import Pair, _specs, run_observability
from bench.records import Document, Measurement, Observed
from bench.report import observability_table
from bench.targets import judge
from bench.unobserved import recording_methods, silence
from serving.distributions import Distribution
from serving.metrics import ServingMetrics
from tests.bench.test_report import ORIGIN, measured


def observed(*traced: float) -> Observed:
    rounds: tuple[Measurement, ...] = tuple(measured(1000.0) for _ in traced)
    return Observed(
        workload="w", silent=rounds, metrics=rounds, traced=tuple(map(measured, traced))
    )


def test_the_silent_pair_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method by which a server records does nothing; a scrape still works."""
    for name in recording_methods():
        monkeypatch.setattr(ServingMetrics, name, getattr(ServingMetrics, name))
    monkeypatch.setattr(Distribution, "observe", Distribution.observe)
    metrics = ServingMetrics("transformer", "m")

    silence()
    metrics.observe_request("v1_predict", "200", 0.1)
    metrics.answers("v1_predict", "200").observe(0.1)
    metrics.observe_batch(7)

    assert len(recording_methods()) >= 8
    assert set(metrics.requests.values()) == {0}
    assert sum(1 for _ in metrics.collect()) > 10


def test_only_the_traced_pair_has_the_setting(tmp_path: Path) -> None:
    """And only the silent one another program."""
    settings = Options(
        rounds=1, seconds=1, model_file=tmp_path, scratch=tmp_path, say=lambda _: None
    )
    specs = {pair: _specs(pair, settings, "http://127.0.0.1:1") for pair in Pair}

    assert [len(each) for each in specs.values()] == [2, 2, 2]
    assert all("bench.unobserved" in spec.arguments for spec in specs[Pair.SILENT])
    assert all(dict(spec.environ)["NIMBUSGUARD_TRACING_RATIO"] for spec in specs[Pair.TRACED])
    assert not any(spec.environ for pair in (Pair.SILENT, Pair.METRICS) for spec in specs[pair])


def run_unserved(
    monkeypatch: pytest.MonkeyPatch, scratch: Path, rates: dict[Pair, float]
) -> tuple[tuple[Observed, ...], list[list[str]]]:
    """Three rounds of the other parts without servers: what is recorded, and what was started."""
    started: list[list[str]] = []

    @contextmanager
    def running(specs: list[Any], _logs: Path) -> Iterator[list[Any]]:
        started.append([specs[-1].name, *specs[-1].arguments])
        yield [SimpleNamespace(spec=spec) for spec in specs]

    monkeypatch.setattr(observability, "running", running)
    for name in ("prepare", "check", "run_wrk"):
        monkeypatch.setattr(observability, name, lambda *_, **__: SimpleNamespace(file=scratch))
    monkeypatch.setattr(
        observability, "_round", lambda _, pairs, __: [measured(rates[pair]) for pair in pairs]
    )
    monkeypatch.setattr(observability, "_exports", lambda _: 1)
    options = Options(rounds=3, seconds=1, model_file=scratch, scratch=scratch, say=lambda _: None)
    return run_observability(options), started


def test_every_round_has_pairs_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workloads share those of one round; the collector stays; each comes first as often."""
    observed, started = run_unserved(monkeypatch, tmp_path, dict.fromkeys(Pair, 1000.0))

    names = [name for name, *_ in started]
    assert names == ["collector"] + ["transformer"] * len(Pair) * 6
    assert [len(each.traced) for each in observed] == [6, 6]
    silent = ["bench.unobserved" in arguments for arguments in started[1:]]
    assert [sum(silent[place :: len(Pair)]) for place in range(len(Pair))] == [2, 2, 2]


def test_what_was_measured_stays_with_its_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order the pairs of a round were started."""
    rates = {Pair.SILENT: 1000.0, Pair.METRICS: 980.0, Pair.TRACED: 960.0}

    observed, _ = run_unserved(monkeypatch, tmp_path, rates)

    for each in observed:
        assert {one.rate for one in each.silent} == {1000.0}
        assert {one.rate for one in each.metrics} == {980.0}
        assert {one.rate for one in each.traced} == {960.0}


def test_the_share_is_the_median_of_rounds() -> None:
    """One bad round does not decide."""
    assert observed(960.0, 970.0, 400.0).kept == pytest.approx(0.96)


def test_the_worst_workload_decides() -> None:
    """Under 0.95 the target is missed."""
    (good,) = (
        verdict.holds
        for verdict in judge(Document(observability=(observed(960.0), observed(951.0))))
        if "Observability" in verdict.target.text
    )
    (bad,) = (
        verdict.holds
        for verdict in judge(Document(observability=(observed(960.0), observed(940.0))))
        if "Observability" in verdict.target.text
    )

    assert (good, bad) == (True, False)


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    """Written and read again it is the same, and the page shows it."""
    record = (observed(960.0, 970.0),)
    path = tmp_path / "results.json"

    results.save(path, "observability", record, ORIGIN)

    document, _ = results.load(path)
    assert document.observability == record
    assert "| w | nothing recorded | 1,000 |" in observability_table(record)
    assert "| 0.965 | 0.96 to 0.97 |" in observability_table(record)
