"""The experience store: what is acknowledged stays, once, whatever dies."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.experience import ExperienceStore, Range
from nimbusguard.contract.errors import InvalidRequest, Unavailable
from tests.autoscaler.harness import experience, outcome

ALL = Range(1, 2**62)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "experience.db"


@pytest.fixture
def store(path: Path) -> Iterator[ExperienceStore]:
    with ExperienceStore(path) as opened:
        yield opened


def ids(store: ExperienceStore) -> list[str]:
    return [decision.decision_id for _, decision, _ in store.read(ALL)]


def test_what_is_recorded_can_be_read_after_a_restart(store: ExperienceStore, path: Path) -> None:
    """Decisions and outcomes, in the order of recording."""
    assert store.record([experience(1), experience(2)]) == 2
    assert store.complete([outcome(2)]) == 1
    store.close()

    with ExperienceStore(path) as again:
        assert list(again.read(ALL)) == [(1, experience(1), None), (2, experience(2), outcome(2))]


def test_recording_again_changes_nothing(store: ExperienceStore) -> None:
    """A caller that saw no end may repeat the call."""
    store.record([experience(1)])
    store.complete([outcome(1)])

    assert store.record([experience(1), experience(2, decision_id="d1")]) == 0
    assert store.complete([outcome(1, reward=9.0)]) == 0
    assert [later for _, _, later in store.read(ALL)] == [outcome(1)]


def test_an_outcome_without_its_decision_is_dropped(store: ExperienceStore) -> None:
    """The decision was pruned in between."""
    assert store.complete([outcome(5)]) == 0


def test_a_batch_is_kept_whole_or_not_at_all(store: ExperienceStore) -> None:
    """One row that the table refuses leaves none behind."""
    bad = experience(2)
    object.__setattr__(bad, "policy", None)

    with pytest.raises(InvalidRequest, match="policy"):
        store.record([experience(1), bad])

    assert ids(store) == []
    assert store.record([experience(1)]) == 1


def test_statistics_count_what_is_there(store: ExperienceStore) -> None:
    """By source, with outcomes and times."""
    assert store.stats().first_decided_at_s is None
    store.record([experience(1), experience(2, source="hold"), experience(3)])
    store.complete([outcome(3)])

    stats = store.stats()

    assert (stats.decisions, stats.with_outcome) == (3, 1)
    assert stats.by_source == {"hold": 1, "kserve": 2}
    assert (stats.first_decided_at_s, stats.last_decided_at_s) == (1001.0, 1003.0)
    assert stats.size_bytes > 0


def test_old_decisions_are_removed_with_their_outcomes_and_the_file_shrinks(
    store: ExperienceStore,
) -> None:
    """Retention gives the space back."""
    store.record([experience(number) for number in range(2_000)])
    store.complete([outcome(number) for number in range(2_000)])
    before = store.stats().size_bytes

    assert store.prune(before_s=2_990.0) == 1_990

    stats = store.stats()
    assert (stats.decisions, stats.with_outcome) == (10, 10)
    assert stats.size_bytes < before / 5


def test_a_store_that_is_too_large_loses_its_oldest(store: ExperienceStore) -> None:
    """No more than it must; rows of a begun export stay, however large it is."""
    store.record([experience(number) for number in range(3_000)])
    store.complete([outcome(number) for number in range(3_000)])
    before = store.size_bytes

    removed = store.shrink(max_bytes=before // 2)

    left = ids(store)
    assert 0.4 * before < store.size_bytes <= before // 2
    assert left == [f"d{number}" for number in range(removed, 3_000)]
    assert 1_300 < len(left) < 1_600
    assert store.shrink(max_bytes=before // 2) == 0
    store.plan_export("there", settled_before_s=1e9, limit=10_000)
    assert store.shrink(max_bytes=1) == 0
    assert len(ids(store)) == len(left)


def test_an_empty_store_cannot_shrink(store: ExperienceStore) -> None:
    """Its tables take some pages, whatever is asked."""
    assert store.shrink(max_bytes=1) == 0


def test_many_old_decisions_are_removed_in_small_steps(
    store: ExperienceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's records wait for one step, not for all of them."""
    monkeypatch.setattr("autoscaler.experience._CHUNK_ROWS", 7)
    store.record([experience(number) for number in range(50)])

    assert store.prune(before_s=1_040.0) == 40
    assert ids(store) == [f"d{number}" for number in range(40, 50)]


def test_a_number_is_never_used_twice(store: ExperienceStore) -> None:
    """Else rows after a pruning would look exported."""
    store.record([experience(1), experience(2)])
    store.prune(before_s=1e9)
    store.record([experience(3)])

    assert [sequence for sequence, _, _ in store.read(ALL)] == [3]


def test_two_processes_may_use_one_file(store: ExperienceStore, path: Path) -> None:
    """The operator writes while the command reads."""
    with ExperienceStore(path) as other:
        store.record([experience(1)])
        assert ids(other) == ["d1"]
        other.prune(before_s=1e9)
    assert ids(store) == []


def test_many_threads_may_use_one_store(store: ExperienceStore) -> None:
    """Nothing is lost and nothing twice."""

    def work(first: int) -> None:
        for number in range(first, first + 50):
            store.record([experience(number)])
            store.complete([outcome(number)])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = store.stats()
    assert (stats.decisions, stats.with_outcome) == (400, 400)


def test_a_file_of_something_else_is_not_touched(path: Path) -> None:
    """Neither text nor another program's database."""
    path.write_text("not a database, but long enough to be taken for one" * 50)
    with pytest.raises(InvalidRequest, match="expected an experience store"):
        ExperienceStore(path)

    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(InvalidRequest, match="expected an experience store of schema 2, got 0"):
        ExperienceStore(path)


def test_a_newer_store_is_not_touched(path: Path) -> None:
    """An older program would lose what it does not know."""
    ExperienceStore(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 3")
    newer.close()

    with pytest.raises(InvalidRequest, match="expected an experience store of schema 2, got 3"):
        ExperienceStore(path)


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(Unavailable, match=r"missing/experience\.db: expected a file"):
        ExperienceStore(tmp_path / "missing/experience.db")


def test_write_ahead_logging_is_required() -> None:
    """A store in memory, or on a file system without it, would lose rows."""
    with pytest.raises(InvalidRequest, match="expected a local volume"):
        ExperienceStore(Path(":memory:"))


def test_a_planned_export_is_repeated_exactly(store: ExperienceStore) -> None:
    """Until it is finished; rows that came later are not in it."""
    store.record([experience(1), experience(2)])
    first = store.plan_export("there", settled_before_s=1e9, limit=10)
    store.record([experience(3)])

    assert first == Range(1, 2)
    assert store.plan_export("there", settled_before_s=1e9, limit=10) == first
    store.finish_export("there", first)
    assert store.plan_export("there", settled_before_s=1e9, limit=10) == Range(3, 3)


def test_a_young_decision_waits_for_its_outcome(store: ExperienceStore) -> None:
    """And holds back those after it, so that none is skipped."""
    store.record([experience(number) for number in (1, 2, 3)])
    store.complete([outcome(1), outcome(3)])

    assert store.plan_export("there", settled_before_s=0.0, limit=10) == Range(1, 1)
    store.finish_export("there", Range(1, 1))
    assert store.plan_export("there", settled_before_s=0.0, limit=10) is None
    assert store.plan_export("there", settled_before_s=1002.5, limit=10) == Range(2, 3)


def test_rows_of_a_begun_export_are_not_removed(store: ExperienceStore) -> None:
    """They are, once it has ended."""
    store.record([experience(1), experience(2)])
    begun = store.plan_export("there", settled_before_s=1e9, limit=1)

    assert begun == Range(1, 1)
    assert store.prune(before_s=1e9) == 1
    assert ids(store) == ["d1"]
    store.finish_export("there", begun)
    assert store.prune(before_s=1e9) == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 7))
def test_every_destination_gets_every_row_once(numbers: list[int], limit: int) -> None:
    """In order and in ranges of the size asked for, whatever was recorded twice."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ExperienceStore(Path(folder) / "experience.db") as store,
    ):
        for number in numbers:
            store.record([experience(number)])
        for place in ("here", "there"):
            arrived: list[str] = []
            while rows := store.plan_export(place, settled_before_s=1e9, limit=limit):
                found = [decision.decision_id for _, decision, _ in store.read(rows)]
                assert len(found) <= limit
                arrived += found
                store.finish_export(place, rows)

            assert arrived == [f"d{number}" for number in dict.fromkeys(numbers)]


WRITER = """
import sys
from pathlib import Path
from autoscaler.experience import ExperienceStore, Range
from tests.autoscaler.harness import experience, outcome

with ExperienceStore(Path(sys.argv[1])) as store:
    known = [int(row.decision_id[1:]) for _, row, _ in store.read(Range(1, 2**62))]
    number = max(known, default=0)
    store.record([experience(n) for n in known[-3:]])  # the end of the last call was not seen
    while True:
        batch = list(range(number + 1, number + 1 + number % 3 + 1))
        store.record([experience(n) for n in batch])
        sys.stdout.write("".join(f"d{n}\\n" for n in batch))
        sys.stdout.flush()
        store.complete([outcome(n) for n in batch])
        sys.stdout.write("".join(f"o{n}\\n" for n in batch))
        sys.stdout.flush()
        number = batch[-1]
"""


def kill_and_check(path: Path, kills: int) -> int:
    """Kill a writer again and again; the number of rows that were acknowledged."""
    rng = np.random.default_rng(20)
    acknowledged: set[str] = set()
    for _ in range(kills):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        printed = bytearray()
        try:
            # Until the first row is acknowledged, then for a random moment more.
            while b"\n" not in printed:
                more = os.read(writer.stdout.fileno(), 65536)
                assert more, "the writer ended by itself"
                printed += more
            select.select([], [], [], rng.uniform(0.0, 0.05))
        finally:
            writer.send_signal(signal.SIGKILL)
            printed += writer.stdout.read()
            writer.stdout.close()
            writer.wait()
        acknowledged |= {line for line in printed.decode().split("\n")[:-1] if line}
        with ExperienceStore(path) as store:
            rows = list(store.read(ALL))
        kept = [decision.decision_id for _, decision, _ in rows]
        outcomes = {f"o{later.decision_id[1:]}" for _, _, later in rows if later}
        assert len(kept) == len(set(kept))
        assert acknowledged <= set(kept) | outcomes
    checked = sqlite3.connect(path)
    assert checked.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    checked.close()
    return len(acknowledged)


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path: Path) -> None:
    """Three kills; the hundred are a slow test."""
    assert kill_and_check(path, 3) > 3


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing_and_double_nothing(path: Path) -> None:
    """Kill -9 at random moments, the same file, a hundred times."""
    assert kill_and_check(path, 100) > 1_000
