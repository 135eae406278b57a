"""`bench/results.json`: the records of all runs, each section with its own provenance.

Every section is written by its own sub-command, so that one part can be run again without the
others, and the report can be written again without any.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from bench.machine import Provenance
from bench.payloads import Form
from bench.plan import Workload
from bench.records import (
    Cell,
    Checkpoint,
    Document,
    Measurement,
    Observed,
    Overload,
    Poison,
    ProcessRecord,
    Profile,
    Ray,
    RayLoad,
    Soak,
    Stage,
    Table,
)
from bench.systems import Side, System

_OPTIONS: Final = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS


def save(path: Path, name: str, result: object, origin: Provenance) -> None:
    """Replace one section of the file.

    Args:
        path: The file; it is made if it is missing.
        name: A field of `Document`.
        result: The value of that field.
        origin: How it was measured.
    """
    sections = _load(path)
    plain = table_to_json(result) if isinstance(result, Table) else _plain(result)
    sections[name] = {"provenance": asdict(origin), "result": plain}
    path.write_bytes(orjson.dumps(sections, option=_OPTIONS) + b"\n")


def _plain(result: object) -> object:
    return orjson.loads(orjson.dumps(result))


def _load(path: Path) -> dict[str, Any]:
    return dict(orjson.loads(path.read_bytes())) if path.exists() else {}


def load(path: Path) -> tuple[Document, dict[str, Provenance]]:
    """All sections, and how each was measured."""
    sections = _load(path)
    found = {name: section["result"] for name, section in sections.items()}
    document = Document(
        table=table_from_json(found["table"]) if "table" in found else None,
        overload=tuple(Overload(**each) for each in found["overload"])
        if "overload" in found
        else None,
        poison=_poison(found["poison"]) if "poison" in found else None,
        soak=_soak(found["soak"]) if "soak" in found else None,
        ray=_ray(found["ray"]) if "ray" in found else None,
        memory=tuple(Stage(**each) for each in found["memory"]) if "memory" in found else None,
        profile=tuple(Profile(**each) for each in found["profile"]) if "profile" in found else None,
        observability=tuple(_observed(each) for each in found["observability"])
        if "observability" in found
        else None,
    )
    origins = {name: Provenance(**section["provenance"]) for name, section in sections.items()}
    return document, origins


def _poison(record: dict[str, Any]) -> Poison:
    names = ("clean_p99_ms", "poisoned_p99_ms", "again_p99_ms")
    # Runs before clean parts were measured twice lack the last one.
    tuples = {name: tuple(record[name]) for name in names if name in record}
    return Poison(**record | tuples)


def _soak(record: dict[str, Any]) -> Soak:
    points = tuple(Checkpoint(**each) for each in record["checkpoints"])
    return Soak(**record | {"checkpoints": points})


def _observed(record: dict[str, Any]) -> Observed:
    rounds = {
        name: tuple(Measurement(**each) for each in record[name])
        for name in ("silent", "metrics", "traced")
    }
    return Observed(workload=record["workload"], **rounds)


def _ray(record: dict[str, Any]) -> Ray:
    loads = {
        name: tuple(RayLoad(**each) for each in record[name]) for name in ("plain", "one", "two")
    }
    return Ray(cores=record["cores"], **loads)


def table_to_json(table: Table) -> dict[str, Any]:
    """A table as plain JSON values."""
    return {
        "cells": [
            {
                "side": cell.workload.side.name,
                "form": cell.workload.form.name,
                "rows": cell.workload.rows,
                "connections": cell.workload.connections,
                "system": cell.system.name,
                "rounds": [asdict(measurement) for measurement in cell.rounds],
            }
            for cell in table.cells
        ],
        "processes": [
            asdict(record) | {"system": record.system.name} for record in table.processes
        ],
        "max_waiting_rows": table.max_waiting_rows,
    }


def table_from_json(document: dict[str, Any]) -> Table:
    """The inverse of `table_to_json`."""
    return Table(
        cells=tuple(_cell(record) for record in document["cells"]),
        processes=tuple(
            ProcessRecord(
                **record | {"system": System[record["system"]], "ready_s": tuple(record["ready_s"])}
            )
            for record in document["processes"]
        ),
        max_waiting_rows=document.get("max_waiting_rows"),  # runs before it was raised lack it
    )


def _cell(record: dict[str, Any]) -> Cell:
    workload = Workload(
        side=Side[record["side"]],
        form=Form[record["form"]],
        rows=record["rows"],
        connections=record["connections"],
    )
    return Cell(
        workload=workload,
        system=System[record["system"]],
        rounds=tuple(Measurement(**each) for each in record["rounds"]),
    )
