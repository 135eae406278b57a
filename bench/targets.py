"""What must hold, as data: each target names its measurement, its limit and its direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.payloads import Form
from bench.plan import Workload
from bench.records import (
    Document,
    Measurement,
    Overload,
    Poison,
    ProcessRecord,
    Soak,
    ratio,
)
from bench.systems import OURS, Side, System

SDK_PREDICTOR: Final = System.REFERENCE_GRPC
"""Both references have the same predictor; this one's is asked alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of what must hold."""

    text: str
    limit: float
    unit: str
    at_least: bool
    measured: Callable[[Document], float | None]
    """None if the run did not measure it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target and what a run says about it."""

    target: Target
    value: float | None

    @property
    def holds(self) -> bool | None:
        """Whether it holds; None if it was not measured."""
        if self.value is None:
            return None
        limit = self.target.limit
        return self.value >= limit if self.target.at_least else self.value <= limit


def judge(document: Document) -> tuple[Verdict, ...]:
    """Every target, beside what was measured."""
    return tuple(Verdict(target=target, value=target.measured(document)) for target in TARGETS)


def rate(measurement: Measurement) -> float:
    """Good answers per second."""
    return measurement.rate


def p50(measurement: Measurement) -> float:
    """Median latency in milliseconds."""
    return measurement.p50_ms


def p99(measurement: Measurement) -> float:
    """99th percentile of the latency in milliseconds."""
    return measurement.p99_ms


def _single(side: Side, connections: int) -> Workload:
    form = Form.NAMED if side is Side.PAIR else Form.ARRAYS
    return Workload(side=side, form=form, rows=1, connections=connections)


def _ratio(
    workload: Workload, other: System, value: Callable[[Measurement], float]
) -> Callable[[Document], float | None]:
    def measured(document: Document) -> float | None:
        if document.table is None:
            return None
        mine = document.table.find(workload, OURS)
        theirs = document.table.find(workload, other)
        return None if mine is None or theirs is None else ratio(mine, theirs, value)

    return measured


def _rows_per_s(side: Side, form: Form) -> Callable[[Document], float | None]:
    workload = Workload(side=side, form=form, rows=1000, connections=16)

    def measured(document: Document) -> float | None:
        cell = None if document.table is None else document.table.find(workload, OURS)
        return None if cell is None else cell.median(rate) * workload.rows

    return measured


def _resident(name: str) -> Callable[[Document], float | None]:
    def measured(document: Document) -> float | None:
        record = None if document.table is None else _process(document.table.processes, name)
        return None if record is None else record.resident_mib

    return measured


def _process(records: tuple[ProcessRecord, ...], name: str) -> ProcessRecord | None:
    for record in records:
        if record.system is OURS and record.name == name:
            return record
    return None


def _errors(document: Document) -> float | None:
    if document.table is None:
        return None
    cells = [cell for cell in document.table.cells if cell.system is OURS]
    return float(sum(cell.errors for cell in cells))


def _overload(value: Callable[[Overload], float]) -> Callable[[Document], float | None]:
    """The worst of all workloads."""
    return lambda document: (
        max(value(each) for each in document.overload) if document.overload else None
    )


def _soak(value: Callable[[Soak], float]) -> Callable[[Document], float | None]:
    return lambda document: None if document.soak is None else value(document.soak)


def _poison(value: Callable[[Poison], float]) -> Callable[[Document], float | None]:
    return lambda document: None if document.poison is None else value(document.poison)


def _at_least(
    limit: float, unit: str, text: str, measured: Callable[[Document], float | None]
) -> Target:
    return Target(text=text, limit=limit, unit=unit, at_least=True, measured=measured)


def _at_most(
    limit: float, unit: str, text: str, measured: Callable[[Document], float | None]
) -> Target:
    return Target(text=text, limit=limit, unit=unit, at_least=False, measured=measured)


_PAIR_1: Final = _single(Side.PAIR, 1)
_PAIR_64: Final = _single(Side.PAIR, 64)
_PREDICTOR_64: Final = _single(Side.PREDICTOR, 64)

TARGETS: Final[tuple[Target, ...]] = (
    _at_least(
        10,
        "times",
        "Pair, 1 row, 64 connections: requests/s over the reference with a gRPC hop",
        _ratio(_PAIR_64, System.REFERENCE_GRPC, rate),
    ),
    _at_least(
        30,
        "times",
        "Pair, 1 row, 64 connections: requests/s over the reference with a REST hop",
        _ratio(_PAIR_64, System.REFERENCE_REST, rate),
    ),
    _at_least(
        0.5,
        "times",
        "Pair, 1 row, 64 connections: requests/s over the raw limit (constant answer)",
        _ratio(_PAIR_64, System.CONST, rate),
    ),
    _at_most(
        1 / 3,
        "times",
        "Pair, 1 row, 1 connection: p50 over the reference with a REST hop",
        _ratio(_PAIR_1, System.REFERENCE_REST, p50),
    ),
    _at_most(
        0.5,
        "times",
        "Pair, 1 row, 1 connection: p50 over the reference with a gRPC hop",
        _ratio(_PAIR_1, System.REFERENCE_GRPC, p50),
    ),
    _at_least(
        6,
        "times",
        "Predictor alone, 1 row, 64 connections: requests/s over the SDK's predictor",
        _ratio(_PREDICTOR_64, SDK_PREDICTOR, rate),
    ),
    _at_most(
        0.2,
        "times",
        "Predictor alone, 1 row, 64 connections: p99 over the SDK's predictor",
        _ratio(_PREDICTOR_64, SDK_PREDICTOR, p99),
    ),
    _at_least(
        1,
        "times",
        "Predictor alone, 1 row, 64 connections: requests/s over uvicorn with one forward each",
        _ratio(_PREDICTOR_64, System.FORWARD, rate),
    ),
    _at_least(
        150_000,
        "rows/s",
        "Pair, batches of 1,000 rows, named JSON, 16 connections",
        _rows_per_s(Side.PAIR, Form.NAMED),
    ),
    _at_least(
        500_000,
        "rows/s",
        "Predictor alone, batches of 1,000 rows, V2 binary, 16 connections",
        _rows_per_s(Side.PREDICTOR, Form.V2_BINARY),
    ),
    _at_most(140, "MiB", "Transformer, resident after the run", _resident("transformer")),
    _at_most(330, "MiB", "Predictor, resident after the run", _resident("predictor")),
    _at_most(0, "errors", "Errors of ours in the whole table", _errors),
    _at_least(2_000_000, "answers", "Soak: answers", _soak(lambda soak: soak.requests)),
    _at_most(0, "errors", "Soak: errors", _soak(lambda soak: soak.errors)),
    _at_most(
        2,
        "MiB",
        "Soak: growth of resident memory after the first tenth",
        _soak(lambda soak: soak.growth_mib),
    ),
    _at_most(
        500,
        "ms",
        "Overload at twice the capacity: p99 of accepted requests",
        _overload(lambda overload: overload.p99_ms),
    ),
    _at_most(
        1.5,
        "times",
        "Overload: p99 of the last sixth over that of the first",
        _overload(lambda overload: overload.drift),
    ),
    _at_most(
        0,
        "requests",
        "Overload: requests that got neither 200 nor 503",
        _overload(lambda overload: overload.failed),
    ),
    _at_most(
        100,
        "ms",
        "Overload: p99 of the answers 503",
        _overload(lambda overload: overload.refused_p99_ms),
    ),
    _at_most(
        1,
        "s",
        "Overload: end of the overload to normal service",
        _overload(lambda overload: overload.recovery_s),
    ),
    _at_least(
        1.7,
        "times",
        "Ray: requests/s with two replicas over one, given the cores",
        lambda document: None if document.ray is None else document.ray.scaling,
    ),
    _at_least(
        0.95,
        "times",
        "Observability: requests/s with metrics and traces of 1 % over a pair without both",
        lambda document: (
            min(each.kept for each in document.observability) if document.observability else None
        ),
    ),
    _at_most(
        0,
        "answers",
        "Poison: wrong or missing answers of the three good clients",
        _poison(lambda poison: poison.wrong),
    ),
    _at_most(
        1.1,
        "times",
        "Poison: p99 of the three good clients over a run without the poisonous one",
        _poison(lambda poison: poison.p99_ratio),
    ),
    _at_most(
        0,
        "answers",
        "Poison: answers other than 400 to the poisonous client",
        _poison(lambda poison: poison.not_refused),
    ),
)
