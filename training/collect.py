"""Hours of the eleven series from Prometheus, and the operator's experience, into one data set.

What came is kept as it came: a gap stays a gap, nothing is interpolated, and no action or reward is
made up. What was wrong with it stands in the manifest; what that means for training is decided by
`training.prepare`. A collection that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import fsspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from nimbusguard.contract.errors import InvalidRequest, MetricsUnavailable
from nimbusguard.contract.features import NAMES
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.contract.promql import PREFIX, WorkloadKey
from training import inspection
from training.dataset import (
    EXPERIENCE,
    FORMAT,
    MANIFEST_FILE,
    PLAN_FILE,
    SAMPLES,
    concatenated,
    counts_of,
    file_record,
    read_chunk,
    read_manifest,
    write_document,
    write_table,
)
from training.range_query import RangeClient, Span, feature_query, reset_query, startup_query

CHUNK_S: Final = 6 * 3600
"""Six hours are 1,440 points at 15 s, an eighth of what Prometheus returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectPlan:
    """What is collected. The first run of a folder writes it down; the next must not differ."""

    span: Span
    workloads: tuple[WorkloadKey, ...] = ()
    """Empty collects every workload that Prometheus has features of."""
    chunk_s: int = CHUNK_S
    experience: str | None = None
    """Folder or s3:// address of the operator's export."""

    def queries(self) -> dict[str, str]:
        """The PromQL of each kind, as it is sent."""
        return {
            "features": feature_query(self.workloads, self.span.step_s),
            "counter_resets": reset_query(self.span.step_s),
            "startup_s": startup_query(),
        }

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the data set."""
        document: dict[str, Any] = orjson.loads(orjson.dumps(asdict(self)))
        return document


Progress = Callable[[int, int], None]
"""Told how many chunks of how many are done."""


def collect(
    folder: Path, client: RangeClient, plan: CollectPlan, *, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Collect what is missing and write the manifest.

    Returns:
        The manifest. A finished collection is returned as it is, without a query.

    Raises:
        InvalidRequest: The folder holds another collection, or a file is no export.
        MetricsUnavailable: Prometheus did not answer; what was collected so far is kept.
    """
    _open(folder, plan)
    if (folder / MANIFEST_FILE).is_file():
        return read_manifest(folder)
    chunks = plan.span.chunks(plan.chunk_s)
    paths = [_chunk_path(folder, chunk) for chunk in chunks]
    for done, (chunk, path) in enumerate(zip(chunks, paths, strict=True), start=1):
        if not path.is_file():
            table, counts = _fetch(client, plan, chunk)
            write_table(path, table, counts)
        progress(done, len(chunks))
    experience = _copy_experience(folder, plan)
    manifest = _manifest(folder, client.shown, plan, paths, experience)
    write_document(folder / MANIFEST_FILE, manifest)
    return manifest


def _open(folder: Path, plan: CollectPlan) -> None:
    path = folder / PLAN_FILE
    if not path.is_file():
        write_document(path, plan.to_json())
    elif orjson.loads(path.read_bytes()) != plan.to_json():
        message = f"{path}: expected the plan of this collection, got another; name another folder"
        raise InvalidRequest(message)


def _chunk_path(folder: Path, chunk: Span) -> Path:
    begin = datetime.fromtimestamp(chunk.begin_s, UTC)
    return folder / "samples" / f"date={begin.date()}" / f"{chunk.begin_s}.parquet"


# --- samples ---


def _fetch(client: RangeClient, plan: CollectPlan, chunk: Span) -> tuple[pa.Table, dict[str, int]]:
    queries = plan.queries()
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    counts = {"duplicates_equal": 0, "duplicates_conflicting": 0, "unknown_series": 0}
    for series in client.query(queries["features"], chunk):
        name = str(series["metric"].get("__name__", "")).removeprefix(PREFIX)
        if name not in NAMES:
            counts["unknown_series"] += 1
            continue
        _put(rows, series, name, counts)
    _conflicts_to_null(rows)
    for name in ("counter_resets", "startup_s"):
        _beside(rows, client.query(queries[name], chunk), name)
    return _table(rows), counts


def _put(
    rows: dict[tuple[str, str, int], dict[str, Any]],
    series: Mapping[str, Any],
    name: str,
    counts: dict[str, int],
) -> None:
    """Take a series over. A second sample for a moment must say the same, else neither counts."""
    for time_s, text in series["values"]:
        row = rows.setdefault(_key(series["metric"], time_s), {})
        value = _number(text)
        if name not in row:
            row[name] = value
        elif row[name] is not _CONFLICT and _same(row[name], value):
            counts["duplicates_equal"] += 1
        else:
            counts["duplicates_conflicting"] += 1
            row[name] = _CONFLICT


_CONFLICT: Final = object()


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _conflicts_to_null(rows: dict[tuple[str, str, int], dict[str, Any]]) -> None:
    for row in rows.values():
        for name in [name for name, value in row.items() if value is _CONFLICT]:
            row[name] = None


def _beside(
    rows: dict[tuple[str, str, int], dict[str, Any]], found: Iterable[Mapping[str, Any]], name: str
) -> None:
    """Put a figure beside rows that exist: it makes none of its own."""
    for series in found:
        for time_s, text in series["values"]:
            row = rows.get(_key(series["metric"], time_s))
            if row is not None:
                row[name] = _number(text)


def _key(labels: Mapping[str, str], time_s: float) -> tuple[str, str, int]:
    return labels.get("namespace", ""), labels.get("workload", ""), round(time_s)


def _number(text: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError) as error:
        message = f"Prometheus: expected a sample value, got {text!r}"
        raise MetricsUnavailable(message) from error


def _table(rows: Mapping[tuple[str, str, int], Mapping[str, Any]]) -> pa.Table:
    found = [
        {
            "time": datetime.fromtimestamp(time_s, UTC),
            "namespace": namespace,
            "workload": workload,
            **{name: row.get(name) for name in NAMES},
            "counter_resets": int(row.get("counter_resets") or 0),
            "startup_s": row.get("startup_s"),
        }
        for (namespace, workload, time_s), row in sorted(rows.items())
    ]
    return pa.Table.from_pylist(found, schema=SAMPLES)


# --- experience ---


def _copy_experience(folder: Path, plan: CollectPlan) -> list[Path]:
    if plan.experience is None:
        return []
    filesystem, place = fsspec.core.url_to_fs(plan.experience.rstrip("/"))
    copied: list[Path] = []
    for name in sorted(filesystem.glob(f"{place}/experience-*.parquet")):
        with filesystem.open(name, "rb") as source:
            table = parquet.read_table(source)
        _require_experience(name, table.schema)
        copied += _write_days(folder, name.rpartition("/")[2], table, plan.span)
    return copied


def _write_days(folder: Path, name: str, table: pa.Table, span: Span) -> list[Path]:
    """The rows of one export file that lie in the range, a file a day."""
    decided = table.column("decided_at")
    begin, end = (
        pa.scalar(datetime.fromtimestamp(second, UTC), decided.type)
        for second in (span.begin_s, span.end_s)
    )
    inside = pc.and_(pc.greater_equal(decided, begin), pc.less(decided, end))
    table = table.filter(inside)
    days = pc.strftime(table.column("decided_at"), format="%Y-%m-%d")
    paths = []
    for day in sorted(pc.unique(days).to_pylist()):
        path = folder / "experience" / f"date={day}" / name
        if not path.is_file():
            write_table(path, table.filter(pc.equal(days, day)), {})
        paths.append(path)
    return paths


def _require_experience(name: str, schema: pa.Schema) -> None:
    for column, kind in EXPERIENCE.items():
        found = schema.field(column).type if column in schema.names else "no such column"
        if found != kind:
            message = f"{name}: expected an operator's export with {column} {kind}, got {found}"
            raise InvalidRequest(message)


# --- manifest ---


def _manifest(
    folder: Path, endpoint: str, plan: CollectPlan, chunks: list[Path], experience: list[Path]
) -> dict[str, Any]:
    table = concatenated(read_chunk(path) for path in chunks)
    counts = [counts_of(path) for path in chunks]
    files = [file_record(folder, path) for path in chunks]
    copied = [file_record(folder, path) for path in experience]
    digests = "".join(record["sha256"] for record in [*files, *copied])
    return {
        "format": FORMAT,
        "fingerprint": FINGERPRINT,
        "prometheus": endpoint,
        "plan": plan.to_json(),
        "queries": plan.queries(),
        "sha256": hashlib.sha256(digests.encode()).hexdigest(),
        "samples": {
            "rows": table.num_rows,
            "steps": plan.span.steps,
            "files": files,
            **{name: sum(count.get(name, 0) for count in counts) for name in _COUNTED},
        },
        "workloads": [
            inspection.describe(course, plan.span)
            for course in inspection.courses(table, plan.span)
        ],
        "experience": {"rows": sum(record["rows"] for record in copied), "files": copied},
    }


_COUNTED: Final = ("duplicates_equal", "duplicates_conflicting", "unknown_series")
