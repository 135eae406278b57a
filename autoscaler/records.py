"""What is kept of a decision and of what came of it, and its form in a table.

Vectors are little-endian floats in a BLOB: NaN (an absent metric) survives, which JSON would lose,
and a row stays under half a kilobyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import orjson

from nimbusguard.contract.actions import ACTION_DIM, ScaleAction
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import STATE_DIM

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """One decision, with everything that is needed to learn from it.

    Raises:
        InvalidRequest: A vector has another length, or the propensity is no probability.
    """

    decision_id: str
    """Unique; recording the same one again changes nothing."""
    policy: str
    """`namespace/name` of the ScalingPolicy."""
    target: str
    """`Kind/name` of the workload, in the policy's namespace."""
    decided_at_s: float
    """Unix time."""
    interval_s: float
    """Seconds until the next decision."""
    mode: str
    """`shadow`, `advise` or `act`."""
    arm: str
    """`stable` or `canary`: whose decision it was; `shadow`: the canary's, only to be recorded."""
    raw: Vector
    """(F,) raw features; NaN where a metric was absent."""
    state: Vector | None
    """(F,) in [0, 1]; None if a metric was absent that may not be."""
    allowed: tuple[bool, ...]
    """(A,) the mask under which the action was chosen."""
    q_values: Vector | None
    """(A,); None if no network answered."""
    action: ScaleAction
    propensity: float
    """Probability with which this action was chosen in this state; 1 for a greedy choice."""
    source: str
    """`kserve`, `local_model`, `hpa_rule` or `hold`."""
    asked: str
    """How the question to KServe ended: a value of `nimbusguard.client.asked.Ended`."""
    answer_s: float | None
    """How long that took; None if KServe was not asked."""
    model_version: str | None
    fingerprint: str
    """The feature table of `raw`, `state` and `action`."""
    current_replicas: int
    target_replicas: int
    """What the guard made of the action."""
    applied: bool
    """Whether the workload was scaled to it."""
    guard: tuple[str, ...]
    """Rules of the guard that changed the recommendation."""

    def __post_init__(self) -> None:
        _require_length("raw", self.raw, STATE_DIM)
        _require_length("allowed", self.allowed, ACTION_DIM)
        if self.state is not None:
            _require_length("state", self.state, STATE_DIM)
        if self.q_values is not None:
            _require_length("q_values", self.q_values, ACTION_DIM)
        if not 0.0 < self.propensity <= 1.0:
            message = f"propensity: expected more than 0 and at most 1, got {self.propensity}"
            raise InvalidRequest(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found at the next decision.

    Raises:
        InvalidRequest: A vector has another length.
    """

    decision_id: str
    observed_at_s: float
    """Unix time."""
    next_raw: Vector
    """(F,) raw features."""
    next_state: Vector | None
    """(F,) in [0, 1]; None as for `Experience.state`."""
    next_replicas: int
    pod_seconds: float
    """Replicas times the time that passed: what the interval cost."""
    violating_requests: float
    """Requests that failed or were too slow, as far as the features tell."""
    reward: float

    def __post_init__(self) -> None:
        _require_length("next_raw", self.next_raw, STATE_DIM)
        if self.next_state is not None:
            _require_length("next_state", self.next_state, STATE_DIM)


EXPERIENCE_COLUMNS: Final = tuple(field.name for field in fields(Experience))
OUTCOME_COLUMNS: Final = tuple(field.name for field in fields(Outcome))
_DOUBLES: Final = frozenset({"raw", "next_raw"})
_FLOATS: Final = frozenset({"state", "q_values", "next_state"})
_LISTS: Final = frozenset({"guard"})


def to_row(record: Experience | Outcome) -> tuple[Any, ...]:
    """The values of a record in the order of its columns."""
    names = EXPERIENCE_COLUMNS if isinstance(record, Experience) else OUTCOME_COLUMNS
    return tuple(_pack(name, getattr(record, name)) for name in names)


def from_row(row: Sequence[Any]) -> tuple[Experience, Outcome | None]:
    """A decision and its outcome, if there is one, from the columns of both."""
    count = len(EXPERIENCE_COLUMNS)
    decision = {
        name: _unpack(name, value) for name, value in zip(EXPERIENCE_COLUMNS, row, strict=False)
    }
    outcome = {
        name: _unpack(name, value) for name, value in zip(OUTCOME_COLUMNS, row[count:], strict=True)
    }
    found = None if outcome["decision_id"] is None else Outcome(**outcome)
    return Experience(**decision), found


def _pack(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _DOUBLES:
        return np.asarray(value, dtype="<f8").tobytes()
    if name in _FLOATS:
        return np.asarray(value, dtype="<f4").tobytes()
    if name == "allowed":
        return sum(1 << index for index, allowed in enumerate(value) if allowed)
    if name in _LISTS:
        return orjson.dumps(value).decode()
    return int(value) if isinstance(value, ScaleAction | bool) else value


def _unpack(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _DOUBLES:
        return tuple(np.frombuffer(value, dtype="<f8").tolist())
    if name in _FLOATS:
        return tuple(np.frombuffer(value, dtype="<f4").tolist())
    if name == "allowed":
        return tuple(bool(value >> index & 1) for index in range(ACTION_DIM))
    if name in _LISTS:
        return tuple(orjson.loads(value))
    if name == "action":
        return ScaleAction(value)
    return bool(value) if name == "applied" else value


def _require_length(name: str, values: Sequence[object], length: int) -> None:
    if len(values) != length:
        message = f"{name}: expected {length} values, got {len(values)}"
        raise InvalidRequest(message)
