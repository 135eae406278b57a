"""The embedded store of decisions and outcomes: one SQLite file in WAL mode.

A row is acknowledged when `record` or `complete` returns; from then on it survives the death of the
process at any moment, and with `synchronous = FULL` that of the machine. Both only insert, under a
unique key, so repeating a call whose end was not seen adds nothing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from autoscaler.experience_schema import prepare
from autoscaler.records import (
    EXPERIENCE_COLUMNS,
    OUTCOME_COLUMNS,
    Experience,
    Outcome,
    from_row,
    to_row,
)
from autoscaler.trial_rows import SELECT_TRIALS, trial_of
from autoscaler.trials import Trial
from nimbusguard.contract.errors import InvalidRequest, Unavailable

_PAGE_ROWS: Final = 10_000
"""Rows read at a time; another process may write in between."""
_LAST_ROW: Final = 2**62
Execute = Callable[..., sqlite3.Cursor]
_INSERT_EXPERIENCE: Final = (
    f"INSERT INTO experience ({', '.join(EXPERIENCE_COLUMNS)}) "  # noqa: S608 - own names
    f"VALUES ({', '.join('?' * len(EXPERIENCE_COLUMNS))}) ON CONFLICT DO NOTHING"
)
# An outcome whose decision was pruned in between has nowhere to belong.
_INSERT_OUTCOME: Final = (
    f"INSERT INTO outcome ({', '.join(OUTCOME_COLUMNS)}) "  # noqa: S608 - own names
    f"SELECT {', '.join(f'?{index + 1}' for index in range(len(OUTCOME_COLUMNS)))} "
    "WHERE EXISTS (SELECT 1 FROM experience WHERE decision_id = ?1) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the store holds."""

    decisions: int
    with_outcome: int
    by_source: dict[str, int]
    first_decided_at_s: float | None
    last_decided_at_s: float | None
    size_bytes: int


class Range(NamedTuple):
    """Rows `first` to `last`, both included, by their sequence number."""

    first: int
    last: int


class ExperienceStore:
    """The store; one per process, safe for many threads."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Args:
            path: The SQLite file; `-wal` and `-shm` are kept beside it.

        Raises:
            Unavailable: The file cannot be opened or written.
            InvalidRequest: The file is no such store, or of a newer program.
        """
        self._path = path
        self._lock = threading.Lock()
        with _translated(path):
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            try:
                prepare(self._connection, path)
                (found,) = self._connection.execute("SELECT id FROM store").fetchone()
            except BaseException:
                self._connection.close()
                raise
        self.id = str(found)
        """Drawn when the file was made: two stores never export under one name."""

    def record(self, decisions: Sequence[Experience]) -> int:
        """Keep decisions, all or none; the rows that were new.

        Raises:
            Unavailable: They could not be written.
        """
        return self._insert(_INSERT_EXPERIENCE, decisions)

    def complete(self, outcomes: Sequence[Outcome]) -> int:
        """Keep outcomes of decisions that the store holds; the rows that were new.

        An outcome of a decision that was removed since is dropped with it.

        Raises:
            Unavailable: They could not be written.
        """
        return self._insert(_INSERT_OUTCOME, outcomes)

    def read(self, rows: Range) -> Iterator[tuple[int, Experience, Outcome | None]]:
        """Rows of a range in their order, each with its sequence number and its outcome, if any."""
        columns = [f"e.{name}" for name in EXPERIENCE_COLUMNS]
        columns += [f"o.{name}" for name in OUTCOME_COLUMNS]
        query = (
            f"SELECT e.sequence, {', '.join(columns)} FROM experience e "  # noqa: S608 - own names
            "LEFT JOIN outcome o USING (decision_id) WHERE e.sequence BETWEEN ? AND ? "
            "ORDER BY e.sequence"
        )
        with self._lock, _translated(self._path):
            found = self._connection.execute(query, rows).fetchall()
        for row in found:
            yield row[0], *from_row(row[1:])

    def trials(self, *, since_s: float) -> Iterator[Trial]:
        """What a judgement needs of the decisions from a Unix time on, in their order."""
        after = self._first_since(since_s) - 1
        while True:
            with self._lock, _translated(self._path):
                page = self._connection.execute(SELECT_TRIALS, (after, _PAGE_ROWS)).fetchall()
            if not page:
                return
            after = page[-1][0]
            for row in page:
                yield trial_of(row[1:])

    def _first_since(self, since_s: float) -> int:
        with self._lock, _translated(self._path):
            (first,) = self._connection.execute(
                "SELECT coalesce(min(sequence), ?) FROM experience WHERE decided_at_s >= ?",
                (_LAST_ROW, since_s),
            ).fetchone()
        return int(first)

    def stats(self) -> Stats:
        """Count what the store holds."""
        with self._lock, _translated(self._path):
            execute = self._connection.execute
            decisions, first, last = execute(
                "SELECT count(*), min(decided_at_s), max(decided_at_s) FROM experience"
            ).fetchone()
            (with_outcome,) = execute("SELECT count(*) FROM outcome").fetchone()
            by_source = execute(
                "SELECT source, count(*) FROM experience GROUP BY source ORDER BY 1"
            )
            pages, page_size = (
                execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
            )
            return Stats(
                decisions=decisions,
                with_outcome=with_outcome,
                by_source=dict(by_source.fetchall()),
                first_decided_at_s=first,
                last_decided_at_s=last,
                size_bytes=pages * page_size,
            )

    def prune(self, *, before_s: float) -> int:
        """Remove decisions older than a Unix time, with their outcomes; the decisions removed.

        Rows of an export that has begun and not ended stay: it will be done again, exactly.
        """
        with self._transaction() as execute:
            removed = execute(
                "DELETE FROM experience WHERE decided_at_s < ? AND NOT EXISTS "
                "(SELECT 1 FROM export WHERE done = 0 AND sequence BETWEEN first AND last)",
                (before_s,),
            ).rowcount
        with self._lock, _translated(self._path):
            # A script, because `execute` would stop after the first page.
            self._connection.executescript("PRAGMA incremental_vacuum")
        return removed

    def plan_export(self, destination: str, *, settled_before_s: float, limit: int) -> Range | None:
        """The next rows to export to a destination, or None if there are none.

        A planned range is kept until `finish_export`; asking again gives the same one, so an export
        that died is repeated exactly.

        Args:
            destination: Any name; each destination gets every row once.
            settled_before_s: Unix time; a later decision waits until it has its outcome.
            limit: The most rows.
        """
        with self._transaction() as execute:
            begun = execute(
                "SELECT first, last FROM export WHERE destination = ? AND done = 0", (destination,)
            ).fetchone()
            if begun:
                return Range(*begun)
            (after,) = execute(
                "SELECT coalesce(max(last), 0) FROM export WHERE destination = ?", (destination,)
            ).fetchone()
            candidates = execute(
                "SELECT e.sequence, e.decided_at_s < ? OR o.decision_id IS NOT NULL "
                "FROM experience e LEFT JOIN outcome o USING (decision_id) "
                "WHERE e.sequence > ? ORDER BY e.sequence LIMIT ?",
                (settled_before_s, after, limit),
            )
            settled: list[int] = []
            for sequence, is_settled in candidates:
                if not is_settled:
                    break
                settled.append(sequence)
            if not settled:
                return None
            execute(
                "INSERT INTO export VALUES (?, ?, ?, 0)", (destination, settled[0], settled[-1])
            )
            return Range(settled[0], settled[-1])

    def finish_export(self, destination: str, rows: Range) -> None:
        """Take note that a planned range has arrived."""
        with self._transaction() as execute:
            execute(
                "UPDATE export SET done = 1 WHERE destination = ? AND first = ?",
                (destination, rows.first),
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> ExperienceStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _insert(self, statement: str, records: Sequence[Experience | Outcome]) -> int:
        with self._transaction() as execute:
            return sum(execute(statement, to_row(record)).rowcount for record in records)

    @contextmanager
    def _transaction(self) -> Iterator[Execute]:
        """One transaction; whatever goes wrong, none of it is kept."""
        with self._lock, _translated(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as errors of the contract, with the file's name."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        message = f"{path}: expected a file that can be read and written, got {exc}"
        raise Unavailable(message) from exc
    except sqlite3.DatabaseError as exc:
        message = f"{path}: expected an experience store, got {exc}"
        raise InvalidRequest(message) from exc
