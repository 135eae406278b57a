"""What a state looks like on the wire, and what is none: shared by predictions and explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.features import NAMES, STATE_DIM
from nimbusguard.contract.messages import describe
from nimbusguard.contract.tensors import TensorSpec

States = Sequence[Sequence[float]] | NDArray[np.float32]

STATE: Final = TensorSpec("state", ("FP32",), (-1, STATE_DIM))
STATE_EXAMPLE: Final = (0.93, 0.55, 0.12, 0.085, 0.0625, 0.062, 0.02, 0.12, 0.2, 0.6, 0.5)
STATE_V2_EXAMPLE: Final[Sequence[Mapping[str, Any]]] = (
    {"name": "state", "datatype": "FP32", "shape": [1, STATE_DIM], "data": list(STATE_EXAMPLE)},
)
STATE_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "array",
    "description": "A state: " + ", ".join(NAMES) + ", each normalized to [0, 1].",
    "items": {"type": "number", "minimum": 0, "maximum": 1},
    "minItems": STATE_DIM,
    "maxItems": STATE_DIM,
}


def array_of(rows: States) -> NDArray[np.float32]:
    """Rows as one array (B, F)."""
    if isinstance(rows, np.ndarray):
        return rows
    count = len(rows) * STATE_DIM
    with np.errstate(over="ignore"):  # infinity is no state, and is refused as one
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.float32, count=count)
    return flat.reshape(-1, STATE_DIM)


def is_state(values: NDArray[np.float32]) -> bool:
    """Whether all values lie in [0, 1]; NaN does not."""
    return bool(((values >= 0.0) & (values <= 1.0)).all())


def state_problem(values: NDArray[np.float32]) -> str | None:
    """What is wrong with the first value of rows (B, F) that no state has; None if none is."""
    wrong = np.argwhere(~((values >= 0.0) & (values <= 1.0)))
    if not len(wrong):
        return None
    row, feature = (int(index) for index in wrong[0])
    return (
        f"instance {row}: {NAMES[feature]}: expected a normalized value in [0, 1], "
        f"got {describe(float(values[row, feature]))}; raw metrics go to the transformer"
    )
