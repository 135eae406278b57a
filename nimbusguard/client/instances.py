"""The four kinds of instance that the transformer accepts, as typed values, and their wire form.

Encoding is total on numbers and judges nothing: NaN becomes `null` (absent) and an infinity its
Prometheus spelling, because JSON has neither. What is acceptable is decided by the transformer
alone, whose message comes back as `InvalidRequest`; a second opinion here would drift from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest

Number = float | int | str | None
"""A feature's value: a number, a numeric string as Prometheus sends it, or None when absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaBounds:
    """What the transformer should assume about replicas; None leaves its default."""

    current_replicas: int | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None

    def wire(self) -> dict[str, int]:
        """Only what was given."""
        pairs = {
            "current_replicas": self.current_replicas,
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
        }
        return {name: int(value) for name, value in pairs.items() if value is not None}


_ASSUME_NOTHING = ReplicaBounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A Deployment, by name."""

    namespace: str
    deployment: str

    def wire(self) -> dict[str, str]:
        """The JSON object."""
        return {"namespace": self.namespace, "deployment": self.deployment}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMetrics:
    """Kind 1: raw features by name. A name left out is an absent feature."""

    metrics: Mapping[str, Number]
    replicas: ReplicaBounds = _ASSUME_NOTHING
    workload: Workload | None = None
    """Only a label of the decision; nothing is looked up."""

    def wire(self) -> dict[str, Any]:
        """The JSON object."""
        named = {"workload": self.workload.wire()} if self.workload else {}
        metrics = {name: _number(value) for name, value in self.metrics.items()}
        return {**metrics, **self.replicas.wire(), **named}


@dataclass(frozen=True, slots=True, kw_only=True)
class RawVector:
    """Kind 2: the eleven raw features in the order of the contract."""

    values: Sequence[float] | NDArray[np.floating[Any]]

    def wire(self) -> list[Number]:
        """The JSON array."""
        return [_number(value) for value in self.values]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusAnswer:
    """Kind 3: the answer of a Prometheus instant query, as it came."""

    answer: Mapping[str, Any]
    replicas: ReplicaBounds = _ASSUME_NOTHING

    def wire(self) -> dict[str, Any]:
        """The JSON object."""
        return {"prometheus": dict(self.answer), **self.replicas.wire()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadReference:
    """Kind 4: the transformer looks the workload up in its own Prometheus."""

    workload: Workload
    replicas: ReplicaBounds = field(default=_ASSUME_NOTHING)

    def wire(self) -> dict[str, Any]:
        """The JSON object."""
        return {"workload": self.workload.wire(), **self.replicas.wire()}


Instance = NamedMetrics | RawVector | PrometheusAnswer | WorkloadReference


def encode(instances: Sequence[Instance]) -> bytes:
    """The body of a V1 prediction.

    Raises:
        InvalidRequest: There is no instance, or one holds a value that JSON cannot carry.
    """
    if not instances:
        message = "instances: expected at least one, got none"
        raise InvalidRequest(message)
    try:
        return orjson.dumps({"instances": [instance.wire() for instance in instances]})
    except TypeError as exc:  # orjson.JSONEncodeError is a TypeError
        message = f"instances: expected values that JSON can carry, got {exc}"
        raise InvalidRequest(message) from exc


def _number(value: Number | np.floating[Any] | np.integer[Any]) -> Number:
    """A number that survives JSON: NaN as None, an infinity as Prometheus spells it."""
    if isinstance(value, np.integer):
        return int(value)
    if not isinstance(value, float | np.floating):
        return value
    plain = float(value)
    if math.isnan(plain):
        return None
    if math.isinf(plain):
        return "+Inf" if plain > 0 else "-Inf"
    return plain
