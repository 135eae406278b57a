"""The tables of the experience store, and how its file is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from nimbusguard.contract.errors import InvalidRequest

SCHEMA_VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE experience (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    decision_id TEXT NOT NULL UNIQUE,
    policy TEXT NOT NULL,
    target TEXT NOT NULL,
    decided_at_s REAL NOT NULL,
    interval_s REAL NOT NULL,
    mode TEXT NOT NULL,
    arm TEXT NOT NULL,
    raw BLOB NOT NULL,
    state BLOB,
    allowed INTEGER NOT NULL,
    q_values BLOB,
    action INTEGER NOT NULL,
    propensity REAL NOT NULL,
    source TEXT NOT NULL,
    asked TEXT NOT NULL,
    answer_s REAL,
    model_version TEXT,
    fingerprint TEXT NOT NULL,
    current_replicas INTEGER NOT NULL,
    target_replicas INTEGER NOT NULL,
    applied INTEGER NOT NULL,
    guard TEXT NOT NULL
) STRICT;
CREATE INDEX experience_by_time ON experience (decided_at_s);
CREATE TABLE outcome (
    decision_id TEXT NOT NULL PRIMARY KEY REFERENCES experience (decision_id) ON DELETE CASCADE,
    observed_at_s REAL NOT NULL,
    next_raw BLOB NOT NULL,
    next_state BLOB,
    next_replicas INTEGER NOT NULL,
    pod_seconds REAL NOT NULL,
    violating_requests REAL NOT NULL,
    reward REAL NOT NULL
) STRICT;
CREATE TABLE store (
    id TEXT NOT NULL
) STRICT;
INSERT INTO store VALUES (lower(hex(randomblob(6))));
CREATE TABLE export (
    destination TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    done INTEGER NOT NULL,
    PRIMARY KEY (destination, first)
) STRICT;
"""
_BUSY_TIMEOUT_MS: Final = 5_000
"""Another process may hold the file for a moment: `nimbusguard experience` beside the operator."""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set the connection up, and make the tables in an empty file.

    Args:
        connection: Without a transaction of its own (`isolation_level=None`).
        path: For messages.

    Raises:
        InvalidRequest: The file holds something else, a newer schema, or lies where write-ahead
            logging does not work.
    """
    execute = connection.execute
    execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    execute("PRAGMA auto_vacuum = INCREMENTAL")
    (journal,) = execute("PRAGMA journal_mode = WAL").fetchone()
    _require(journal == "wal", path, "a local volume, for write-ahead logging", journal)
    # A row is acknowledged only when it is on the disk, not when the kernel has it.
    execute("PRAGMA synchronous = FULL")
    execute("PRAGMA foreign_keys = ON")
    execute("BEGIN IMMEDIATE")
    try:
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables == 0:
            for statement in _SCHEMA.split(";\n"):
                execute(statement)
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        else:
            known = version == SCHEMA_VERSION
            _require(known, path, f"an experience store of schema {SCHEMA_VERSION}", version)
    except BaseException:
        execute("ROLLBACK")
        raise
    execute("COMMIT")


def _require(holds: bool, path: Path, expected: str, got: object) -> None:
    if not holds:
        message = f"{path}: expected {expected}, got {got!r}"
        raise InvalidRequest(message)
