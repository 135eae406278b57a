"""`nimbusguard experience`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import parquet

from autoscaler.experience import ExperienceStore
from nimbusguard.cli import main
from tests.autoscaler.harness import experience, outcome


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "experience.db"
    with ExperienceStore(path) as store:
        store.record([experience(1), experience(2, source="hold")])
        store.complete([outcome(1)])
    return str(path)


def test_statistics_are_a_table_for_people(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts by source, times in UTC."""
    assert main(["experience", "--store", file, "stats"]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert printed[:6] == [
        "decisions      2",
        "with outcome   1",
        "  hold         1",
        "  kserve       1",
        "first          1970-01-01T00:16:41+00:00",
        "last           1970-01-01T00:16:42+00:00",
    ]


def test_statistics_are_json_for_programs(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty store has no times."""
    assert main(["experience", "--store", file, "prune", "--days", "0"]) == 0
    assert capsys.readouterr().out == "2 decisions removed\n"

    assert main(["experience", "--store", file, "stats", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document.pop("size_bytes") > 0
    assert document == {
        "decisions": 0,
        "with_outcome": 0,
        "by_source": {},
        "first_decided_at": None,
        "last_decided_at": None,
    }


def test_new_rows_are_exported_once(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second time there is nothing new."""
    command = ["experience", "--store", file, "export", "--to", str(tmp_path / "out")]

    assert main(command) == 0
    (name,) = capsys.readouterr().out.split()
    assert parquet.read_table(name).num_rows == 2
    assert main(command) == 0
    assert capsys.readouterr().out == "nothing new\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "absent.db", "stats"], "--store: expected the operator's SQLite file"),
        (["prune", "--days", "-1"], "--days: expected a number from 0, got -1.0"),
        (["prune", "--days", "nan"], "--days: expected a number from 0, got nan"),
    ],
)
def test_a_mistake_is_explained(
    file: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, one line, no file made."""
    if arguments[0] != "--store":
        arguments = ["--store", file, *arguments]

    assert main(["experience", *arguments]) == 1

    assert message in capsys.readouterr().err
    assert not Path("absent.db").exists()
