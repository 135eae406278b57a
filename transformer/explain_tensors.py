"""The predictor's explanation as it comes over the hop: four tensors, checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import NonFiniteOutput, PredictorUnavailable
from nimbusguard.contract.features import STATE_DIM

Values = NDArray[np.float32]
SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "q_values": (ACTION_DIM,),
    "baseline_q_values": (ACTION_DIM,),
    "attributions": (ACTION_DIM, STATE_DIM),
    "completeness_error": (),
}
"""The outputs that an explanation asks for, with the shape of one row."""


class HopExplanation(NamedTuple):
    """What the predictor said of a batch."""

    q_values: Values
    """(B, A), finite, as all of these."""
    baseline_q_values: Values
    """(B, A)."""
    attributions: Values
    """(B, A, F)."""
    completeness_error: Values
    """(B,)."""
    model_version: str
    fingerprint: str


class Tensor(NamedTuple):
    """An output as it came."""

    datatype: object
    shape: object
    values: Values
    """Flat."""


def explanation_from(
    tensors: Mapping[str, Tensor], rows: int, model_version: str, fingerprint: str
) -> HopExplanation:
    """The explanation in an answer.

    Raises:
        PredictorUnavailable: An output is missing or has another shape.
        NonFiniteOutput: A value is NaN or infinite.
    """
    arrays: dict[str, Values] = {}
    for name, row_shape in SHAPES.items():
        tensor, shape = tensors.get(name), (rows, *row_shape)
        if tensor is None or tensor.datatype != "FP32" or tensor.shape != list(shape):
            found = "none" if tensor is None else f"{tensor.datatype!r} of {tensor.shape!r}"[:100]
            message = f"predictor: expected {name} FP32 of shape {list(shape)}, got {found}"
            raise PredictorUnavailable(message)
        if tensor.values.size != np.prod(shape, dtype=np.int64):
            message = f"predictor: {name}: expected {shape} numbers, got {tensor.values.size}"
            raise PredictorUnavailable(message)
        if not np.isfinite(tensor.values).all():
            message = f"predictor: {name}: NaN or infinity"
            raise NonFiniteOutput(message)
        arrays[name] = tensor.values.reshape(shape)
    return HopExplanation(**arrays, model_version=model_version, fingerprint=fingerprint)


def values_of(entry: Mapping[str, Any], tail: memoryview) -> tuple[Values, int]:
    """The numbers of one REST output, and how many bytes of the binary tail they took."""
    if "data" in entry:
        with np.errstate(over="ignore"):  # infinity is refused as such
            return np.array(entry["data"], dtype=np.float32).ravel(), 0
    size = entry["parameters"]["binary_data_size"]
    return np.frombuffer(tail[:size], dtype="<f4"), size
