"""What is measured, as data: each workload and the systems that take turns at it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bench.payloads import Form
from bench.systems import OURS, REFERENCES, Side, System
from serving.settings import ServerSettings

LOADS: Final = (1, 16, 64)
CURVE_LOADS: Final = (1, 4, 16, 64, 128)
"""The loads of the plot."""
BATCHES: Final = (100, 1000)
WARM_UP_CONNECTIONS: Final = 64
"""Every kind of request is first sent over so many."""
BODIES: Final = {1: 64, 100: 8, 1000: 4}
"""Different bodies that are sent in turn, by rows in a body."""

_PAIRS: Final = (*REFERENCES, OURS)
_FASTER: Final = (System.REFERENCE_GRPC, OURS)
"""The faster reference and ours; more forms through the slower one tell nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One kind of request under one load."""

    side: Side
    form: Form
    rows: int
    connections: int

    @property
    def title(self) -> str:
        """One line for tables and messages."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.side.value}, {self.form.value}, {rows}, {self.connections} connections"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A workload and the systems that are measured one after another under it."""

    workload: Workload
    systems: tuple[System, ...]


def _turns(
    side: Side, forms: Iterable[Form], rows: int, loads: Iterable[int], systems: tuple[System, ...]
) -> list[Turn]:
    return [
        Turn(
            workload=Workload(side=side, form=form, rows=rows, connections=connections),
            systems=systems,
        )
        for form in forms
        for connections in loads
    ]


def full_plan() -> tuple[Turn, ...]:
    """Everything that `make bench` measures in one round."""
    single = (*_PAIRS, System.OURS_GRPC, System.CONST)
    plan = _turns(Side.PAIR, [Form.NAMED], 1, CURVE_LOADS, single)
    plan += _turns(Side.PAIR, [Form.ARRAYS], 1, LOADS, _PAIRS)
    plan += _turns(Side.PAIR, [Form.V2_BINARY], 1, LOADS, _FASTER)
    plan += _turns(Side.PAIR, [Form.V2_JSON], 1, (64,), _FASTER)
    for rows in BATCHES:
        plan += _turns(Side.PAIR, [Form.NAMED], rows, LOADS, _PAIRS)
        plan += _turns(Side.PAIR, [Form.ARRAYS, Form.V2_BINARY], rows, LOADS, _FASTER)
    plan += _turns(Side.PREDICTOR, [Form.ARRAYS], 1, LOADS, (*_FASTER, System.FORWARD))
    plan += _turns(Side.PREDICTOR, [Form.V2_BINARY], 1, LOADS, _FASTER)
    plan += _turns(Side.PREDICTOR, [Form.V2_JSON], 1, (64,), _FASTER)
    for rows in BATCHES:
        plan += _turns(Side.PREDICTOR, [Form.ARRAYS, Form.V2_BINARY], rows, LOADS, _FASTER)
    return tuple(plan)


def quick_plan() -> tuple[Turn, ...]:
    """The workloads that the targets speak of, and no others."""
    single = (*_PAIRS, System.CONST)
    plan = _turns(Side.PAIR, [Form.NAMED], 1, (1, 64), single)
    plan += _turns(Side.PAIR, [Form.NAMED], 1000, (16,), (OURS,))
    plan += _turns(Side.PREDICTOR, [Form.ARRAYS], 1, (64,), (*_FASTER, System.FORWARD))
    plan += _turns(Side.PREDICTOR, [Form.V2_BINARY], 1000, (16,), (OURS,))
    return tuple(plan)


def waiting_rows(plan: Iterable[Turn]) -> int:
    """Rows that wait at once if every connection of the largest load waits for its answer.

    With a smaller limit ours would refuse a part of that load, as it should; but then the table
    would show how fast a closed loop is refused, and not how fast rows are answered.

    Returns:
        At least the limit as shipped: what is measured is never narrower than what is installed.
    """
    offered = (
        turn.workload.rows * max(turn.workload.connections, WARM_UP_CONNECTIONS) for turn in plan
    )
    return max(ServerSettings().max_waiting_rows, *offered)


def systems_of(plan: Iterable[Turn]) -> tuple[System, ...]:
    """The systems that a plan needs, in the order of `System`."""
    needed = {system for turn in plan for system in turn.systems}
    return tuple(system for system in System if system in needed)
