"""The collected data set on disk: typed Parquet in partitions, and a manifest that vouches for it.

    <folder>/plan.json                           what is being collected; fixed by the first run
    <folder>/samples/date=2026-11-23/<begin>.parquet
    <folder>/experience/date=2026-11-23/<export file>
    <folder>/manifest.json                       written last; without it there is no data set

A file is written aside and renamed, and is read only if the manifest lists it with the digest that
it has. So a half-written chunk is never read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
from pyarrow import parquet

from nimbusguard.contract.errors import ArtifactCorrupted, NotFound
from nimbusguard.contract.features import NAMES

MANIFEST_FILE: Final = "manifest.json"
PLAN_FILE: Final = "plan.json"
FORMAT: Final = 1
_COUNTS_KEY: Final = b"nimbusguard.counts"
MOMENT: Final = pa.timestamp("us", tz="UTC")
SAMPLES: Final = pa.schema(
    [
        pa.field("time", MOMENT, nullable=False),
        pa.field("namespace", pa.string(), nullable=False),
        pa.field("workload", pa.string(), nullable=False),
        # Null: no sample. NaN: a sample that says so, as the p95 of a service without traffic does.
        *(pa.field(name, pa.float64()) for name in NAMES),
        pa.field("counter_resets", pa.int32(), nullable=False),
        pa.field("startup_s", pa.float64()),
    ]
)
"""One row for each step at which a workload had any feature; sorted by workload, then time."""
EXPERIENCE: Final[Mapping[str, pa.DataType]] = {
    "decision_id": pa.string(),
    "policy": pa.string(),
    "decided_at": MOMENT,
    "raw": pa.list_(pa.float64()),
    "action": pa.int8(),
    "propensity": pa.float64(),
    "fingerprint": pa.string(),
    "current_replicas": pa.int32(),
    "target_replicas": pa.int32(),
    "reward": pa.float64(),
}
"""What a file of the operator's export must have; its other columns are kept as they are."""


def write_table(path: Path, table: pa.Table, counts: Mapping[str, int]) -> None:
    """Write a chunk with what was counted while it was made; all of it or nothing."""
    metadata = {**(table.schema.metadata or {}), _COUNTS_KEY: orjson.dumps(dict(counts))}
    aside = path.with_name(f".{path.name}.part")
    aside.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table.replace_schema_metadata(metadata), aside, compression="zstd")
    _settle(aside, path)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON; all of it or nothing."""
    aside = path.with_name(f".{path.name}.part")
    aside.parent.mkdir(parents=True, exist_ok=True)
    aside.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    _settle(aside, path)


def counts_of(path: Path) -> dict[str, int]:
    """What `write_table` was told beside the rows."""
    metadata = parquet.read_schema(path).metadata or {}
    counts: dict[str, int] = orjson.loads(metadata.get(_COUNTS_KEY, b"{}"))
    return counts


def file_record(folder: Path, path: Path) -> dict[str, Any]:
    """A file as the manifest lists it."""
    content = path.read_bytes()
    return {
        "file": str(path.relative_to(folder)),
        "rows": parquet.read_metadata(path).num_rows,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished collection.

    Raises:
        NotFound: There is none: the collection did not finish.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        message = f"{path}: expected a finished collection; run `nimbusguard collect` again"
        raise NotFound(message)
    manifest: dict[str, Any] = orjson.loads(path.read_bytes())
    return manifest


def read_samples(folder: Path) -> pa.Table:
    """All samples that the manifest lists, after their digests were checked.

    Raises:
        NotFound: The collection did not finish.
        ArtifactCorrupted: A file is missing, changed, or has other columns.
    """
    records = read_manifest(folder)["samples"]["files"]
    return concatenated(_checked(folder, record) for record in records)


def concatenated(tables: Iterable[pa.Table]) -> pa.Table:
    """Chunks as one table; an empty one of the right columns if there is none."""
    return pa.concat_tables([SAMPLES.empty_table(), *tables]).sort_by(
        [("namespace", "ascending"), ("workload", "ascending"), ("time", "ascending")]
    )


def read_chunk(path: Path) -> pa.Table:
    """One chunk of samples.

    Raises:
        ArtifactCorrupted: It is no Parquet file, or has other columns.
    """
    try:
        table = parquet.read_table(path, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        message = f"{path}: expected a Parquet file, got {error}"
        raise ArtifactCorrupted(message) from error
    if not table.schema.equals(SAMPLES):
        message = f"{path}: expected the columns {SAMPLES.names}, got {table.schema.names}"
        raise ArtifactCorrupted(message)
    return table.replace_schema_metadata(None)


def _checked(folder: Path, record: Mapping[str, Any]) -> pa.Table:
    path = folder / str(record["file"])
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != record["sha256"]:
        message = f"{path}: expected SHA-256 {record['sha256']}, got {found}; collect anew"
        raise ArtifactCorrupted(message)
    return read_chunk(path)


def _settle(aside: Path, path: Path) -> None:
    descriptor = os.open(aside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.replace(path)
