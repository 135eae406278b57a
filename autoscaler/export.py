"""Experience as Parquet, for training: each row arrives once, whatever dies in between.

The store plans a range of rows before anything is written, and the file is named after the store
and the range: several operators may export to one place. An export that died is repeated for
exactly the same rows and replaces the same file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from pyarrow import parquet

from autoscaler.experience import ExperienceStore
from autoscaler.records import EXPERIENCE_COLUMNS, OUTCOME_COLUMNS, Experience, Outcome
from nimbusguard.contract.errors import InvalidRequest, Unavailable

ROWS_PER_FILE: Final = 50_000
"""About 10 MiB; a file is the unit that is repeated."""
SETTLED_AFTER_S: Final = 600.0
"""A decision this old gets no outcome any more; a younger one waits for it."""

_MOMENT: Final = pa.timestamp("us", tz="UTC")
# Lists of variable size: a null of a fixed-size list cannot be read back from Parquet.
_RAW: Final = pa.list_(pa.float64())
_STATE: Final = pa.list_(pa.float32())
SCHEMA: Final = pa.schema(
    [
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("decided_at", _MOMENT, nullable=False),
        pa.field("interval_s", pa.float64(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("raw", _RAW, nullable=False),
        pa.field("state", _STATE),
        pa.field("allowed", pa.list_(pa.bool_()), nullable=False),
        pa.field("q_values", _STATE),
        pa.field("action", pa.int8(), nullable=False),
        pa.field("propensity", pa.float64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("asked", pa.string(), nullable=False),
        pa.field("answer_s", pa.float64()),
        pa.field("model_version", pa.string()),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("current_replicas", pa.int32(), nullable=False),
        pa.field("target_replicas", pa.int32(), nullable=False),
        pa.field("applied", pa.bool_(), nullable=False),
        pa.field("guard", pa.list_(pa.string()), nullable=False),
        pa.field("observed_at", _MOMENT),
        pa.field("next_raw", _RAW),
        pa.field("next_state", _STATE),
        pa.field("next_replicas", pa.int32()),
        pa.field("pod_seconds", pa.float64()),
        pa.field("violating_requests", pa.float64()),
        pa.field("reward", pa.float64()),
    ]
)
"""One row a decision; the columns from `observed_at` on are null while it has no outcome."""


def export(
    store: ExperienceStore,
    destination: str,
    *,
    now_s: float,
    rows_per_file: int = ROWS_PER_FILE,
) -> list[str]:
    """Write every settled row that the destination does not have yet.

    Args:
        store: Where the rows are.
        destination: A folder or an address that fsspec knows, such as `s3://bucket/experience`.
        now_s: Unix time.
        rows_per_file: The most rows in one file.

    Returns:
        The files that were written.

    Raises:
        InvalidRequest: No such kind of destination.
        Unavailable: The destination or the store cannot be used now.
    """
    place = destination.rstrip("/")
    files: list[str] = []
    while rows := store.plan_export(
        place, settled_before_s=now_s - SETTLED_AFTER_S, limit=rows_per_file
    ):
        numbers = f"{rows.first:012d}-{rows.last:012d}"
        name = f"{place}/experience-{store.id}-{numbers}.parquet"
        table = _table([(decision, outcome) for _, decision, outcome in store.read(rows)])
        _write(name, table)
        store.finish_export(place, rows)
        files.append(name)
    return files


def _table(records: Sequence[tuple[Experience, Outcome | None]]) -> pa.Table:
    return pa.Table.from_pylist([_row(*record) for record in records], schema=SCHEMA)


def _row(decision: Experience, outcome: Outcome | None) -> dict[str, Any]:
    values = {name: getattr(decision, name) for name in EXPERIENCE_COLUMNS}
    values["decided_at"] = datetime.fromtimestamp(decision.decided_at_s, UTC)
    if outcome is not None:
        values |= {name: getattr(outcome, name) for name in OUTCOME_COLUMNS}
        values["observed_at"] = datetime.fromtimestamp(outcome.observed_at_s, UTC)
    return values


def _write(name: str, table: pa.Table) -> None:
    """A reader sees a whole file or none."""
    try:
        filesystem, path = fsspec.core.url_to_fs(name)
    except (ValueError, ImportError) as exc:
        message = f"destination: expected a folder or s3://bucket/…, got {name!r} ({exc})"
        raise InvalidRequest(message) from exc
    try:
        if isinstance(filesystem, LocalFileSystem):
            _write_aside(filesystem, path, table)
        else:
            # An object appears when all of it is there; to move one would need more rights.
            content = io.BytesIO()
            parquet.write_table(table, content, compression="zstd")
            filesystem.pipe_file(path, content.getvalue())
    except _failures(filesystem) as exc:
        message = f"{name}: expected a place that can be written, got {exc}"
        raise Unavailable(message) from exc


def _write_aside(filesystem: LocalFileSystem, path: str, table: pa.Table) -> None:
    """Write another file, then rename it."""
    folder, _, file = path.rpartition("/")
    aside = f"{folder}/.{file}.part"
    filesystem.makedirs(folder, exist_ok=True)
    with filesystem.open(aside, "wb") as sink:
        parquet.write_table(table, sink, compression="zstd")
    _sync(aside)
    filesystem.mv(aside, path)


def _failures(filesystem: fsspec.AbstractFileSystem) -> tuple[type[Exception], ...]:
    """What a file system raises when it cannot be reached."""
    if "s3" not in filesystem.protocol:
        return (OSError,)
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

    return OSError, BotoCoreError  # no server, no credentials: not among the OSErrors


def _sync(path: str) -> None:
    """The store will hold these rows to be exported, so they must be on the disk first."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
