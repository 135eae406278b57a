"""Whether a network answers alike in every form it is written in. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TOLERANCE: Final = 1e-5
"""Largest difference of a Q-value, relative to the largest magnitude of its row or 1."""
TIE: Final = 1e-6
"""Two best Q-values closer than this, by the same measure, are equal to float32 rounding: which one
is the larger is then no property of the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """How closely the files agree with one another, and with the eager network when it is given."""

    states: int
    """Number of states compared."""
    argmax_differs: int
    """States where the best action differs and the two best Q-values are no tie."""
    ties: int
    """States whose two best Q-values are equal to float32 rounding; in a sound network 0."""
    max_difference_onnx: float
    """Largest relative difference between TorchScript and ONNX."""
    max_difference_eager: float | None
    """The same between TorchScript and eager; None if only the files were compared."""

    @property
    def passed(self) -> bool:
        """Whether the files may be published as one network."""
        differences = (self.max_difference_onnx, self.max_difference_eager or 0.0)
        return self.argmax_differs == 0 and max(differences) <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """The report as it stands in a version's metadata."""
        return {**asdict(self), "passed": self.passed}


def compare(
    scripted: NDArray[np.float32],
    onnx: NDArray[np.float32],
    eager: NDArray[np.float32] | None,
) -> ParityReport:
    """Compare Q-values (B, A) of the same states from two or three sources."""
    scale = np.maximum(1.0, np.abs(scripted).max(axis=1))  # (B,)
    best_two = np.sort(scripted, axis=1)[:, -2:].astype(np.float64)  # (B, 2)
    tie = best_two[:, 1] - best_two[:, 0] <= TIE * scale  # (B,)
    action = scripted.argmax(axis=1)
    differs = np.zeros(len(scripted), dtype=np.bool_)
    differences: list[float] = []
    for other in (onnx, eager):
        if other is None:
            continue
        differs |= other.argmax(axis=1) != action
        gap = np.abs(other.astype(np.float64) - scripted).max(axis=1)  # (B,)
        differences.append(float((gap / scale).max()))
    return ParityReport(
        states=len(scripted),
        argmax_differs=int((differs & ~tie).sum()),
        ties=int(tie.sum()),
        max_difference_onnx=differences[0],
        max_difference_eager=differences[1] if eager is not None else None,
    )
