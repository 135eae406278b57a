"""What an operator knows about one workload at one moment, and many of them as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.client.instances import NamedMetrics, ReplicaBounds
from nimbusguard.contract.actions import DEFAULT_MAX_REPLICAS, DEFAULT_MIN_REPLICAS
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import NAMES, STATE_DIM

MOST_REPLICAS = 1_000_000
"""A replica count above this is a mistake, not a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Raw features and replicas of one workload.

    Raises:
        InvalidRequest: Not eleven values, or replica counts that contradict one another.
    """

    values: tuple[float, ...]
    """(F,) raw features in the order of the contract; NaN means absent."""
    current_replicas: int
    """Desired replicas now, as the scale subresource says."""
    min_replicas: int = DEFAULT_MIN_REPLICAS
    max_replicas: int = DEFAULT_MAX_REPLICAS

    def __post_init__(self) -> None:
        if len(self.values) != STATE_DIM:
            message = f"values: expected {STATE_DIM} numbers, got {len(self.values)}"
            raise InvalidRequest(message)
        for name in ("current_replicas", "min_replicas", "max_replicas"):
            if not 0 <= getattr(self, name) <= MOST_REPLICAS:
                message = f"{name}: expected 0 to {MOST_REPLICAS}, got {getattr(self, name)}"
                raise InvalidRequest(message)
        if self.min_replicas > self.max_replicas:
            message = (
                f"min_replicas: expected at most max_replicas ({self.max_replicas}), "
                f"got {self.min_replicas}"
            )
            raise InvalidRequest(message)

    def instance(self) -> NamedMetrics:
        """As the transformer is asked about it."""
        return NamedMetrics(
            metrics=dict(zip(NAMES, self.values, strict=True)),
            replicas=ReplicaBounds(
                current_replicas=self.current_replicas,
                min_replicas=self.min_replicas,
                max_replicas=self.max_replicas,
            ),
        )


class Rows(NamedTuple):
    """Observations as arrays."""

    raw: NDArray[np.float64]
    """(B, F)."""
    current: NDArray[np.int64]
    """(B,)."""
    minimum: NDArray[np.int64]
    """(B,)."""
    maximum: NDArray[np.int64]
    """(B,)."""


def stack(observations: Sequence[Observation]) -> Rows:
    """Many observations as arrays, in their order."""
    raw = np.array([seen.values for seen in observations], dtype=np.float64)
    counts = np.array(
        [(seen.current_replicas, seen.min_replicas, seen.max_replicas) for seen in observations],
        dtype=np.int64,
    ).reshape(-1, 3)
    return Rows(raw.reshape(-1, STATE_DIM), counts[:, 0], counts[:, 1], counts[:, 2])
