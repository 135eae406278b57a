"""Experience as Parquet: complete, typed, each row once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest
from pyarrow import parquet

from autoscaler import export as module
from autoscaler.experience import ExperienceStore
from autoscaler.export import SCHEMA, export
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest, Unavailable
from tests.autoscaler.harness import experience, outcome

LATER = 1e9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ExperienceStore]:
    with ExperienceStore(tmp_path / "experience.db") as opened:
        yield opened


def test_every_column_arrives_with_its_type(store: ExperienceStore, tmp_path: Path) -> None:
    """Vectors as lists, times with their zone, an absent metric as NaN, nothing as null."""
    store.record(
        [
            experience(1, raw=(math.nan, *(0.5,) * 10), guard=("BOUNDS", "BURST")),
            experience(2, state=None, q_values=None, model_version=None, action=0),
        ]
    )
    store.complete([outcome(1)])

    (file,) = export(store, str(tmp_path / "out"), now_s=LATER)

    table = parquet.read_table(file)
    first, second = table.to_pylist()
    assert table.schema.equals(SCHEMA)
    assert Path(file).name == f"experience-{store.id}-000000000001-000000000002.parquet"
    assert first["decided_at"] == datetime(1970, 1, 1, 0, 16, 41, tzinfo=UTC)
    assert math.isnan(first["raw"][0])
    assert first["action"] == ScaleAction.NO_ACTION
    assert first["guard"] == ["BOUNDS", "BURST"]
    assert first["next_state"] == [0.5] * 11
    assert first["reward"] == -62.0
    assert (second["state"], second["q_values"], second["reward"]) == (None, None, None)


def test_each_export_brings_only_what_is_new(store: ExperienceStore, tmp_path: Path) -> None:
    """In files of the size asked for; nothing new is no file."""
    store.record([experience(number) for number in range(1, 6)])

    assert len(export(store, f"{tmp_path}/out/", now_s=LATER, rows_per_file=2)) == 3
    assert export(store, f"{tmp_path}/out", now_s=LATER) == []
    store.record([experience(6)])
    export(store, f"{tmp_path}/out", now_s=LATER)

    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert [row["decision_id"] for row in rows] == [f"d{number}" for number in range(1, 7)]


def test_two_stores_share_a_destination(store: ExperienceStore, tmp_path: Path) -> None:
    """Two operators, or one before and after its volume was lost: the numbers begin anew."""
    with ExperienceStore(tmp_path / "other.db") as other:
        store.record([experience(1), experience(2)])
        other.record([experience(3), experience(4)])

        export(store, str(tmp_path / "out"), now_s=LATER)
        export(other, str(tmp_path / "out"), now_s=LATER)

    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert sorted(row["decision_id"] for row in rows) == ["d1", "d2", "d3", "d4"]
    with ExperienceStore(tmp_path / "other.db") as again:
        assert again.id == other.id != store.id


def test_an_export_that_died_is_repeated_without_a_double_row(
    store: ExperienceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died after the file and before the note; the same file is written again."""
    store.record([experience(1), experience(2)])

    def die(destination: str, rows: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "finish_export", die)
        with pytest.raises(KeyboardInterrupt):
            export(store, str(tmp_path / "out"), now_s=LATER)
    store.record([experience(3)])
    export(store, str(tmp_path / "out"), now_s=LATER)

    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert [row["decision_id"] for row in rows] == ["d1", "d2", "d3"]


def test_a_reader_never_sees_half_a_file(
    store: ExperienceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that dies in the middle leaves no file of that name."""
    store.record([experience(1)])

    def half(table: object, sink: object, **options: object) -> None:
        sink.write(b"PAR1")  # type: ignore[attr-defined]
        message = "disk full"
        raise OSError(message)

    monkeypatch.setattr(module.parquet, "write_table", half)
    with pytest.raises(Unavailable, match="disk full"):
        export(store, str(tmp_path / "out"), now_s=LATER)

    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == []


def test_object_storage_is_written_through_fsspec(store: ExperienceStore) -> None:
    """Any address that fsspec knows; here one in memory."""
    store.record([experience(1)])

    (file,) = export(store, "memory://bucket/experience", now_s=LATER)

    with fsspec.open(file) as source:
        assert parquet.read_table(source).num_rows == 1


def test_a_destination_of_no_known_kind_is_refused(store: ExperienceStore) -> None:
    """The message says what would do."""
    store.record([experience(1)])

    with pytest.raises(InvalidRequest, match=r"expected a folder or s3://bucket.*got 'nowhere://"):
        export(store, "nowhere://x", now_s=LATER)
