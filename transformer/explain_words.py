"""An explanation for people: attributions in raw units, and one sentence. Pure.

Two questions are answered. Why is this action worth what it is: `attribution`, which sums to its
Q-value less that of the baseline. Why this one and not the next best: `preference`, the difference
of both actions' attributions, which sums to the margin less the margin at the baseline; the
sentence speaks of that, because load lowers the worth of every action alike.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.baseline import BASELINE
from nimbusguard.contract.features import FEATURES, NAMES

METHOD: Final = "integrated gradients"
_TOLD: Final = 3
"""Features that a sentence names on either side."""
_WORTH_TELLING: Final = 0.05
"""A feature is named from this share of the strongest one on."""


class Explained(NamedTuple):
    """One row, as much of it as words need."""

    action: ScaleAction
    current: int
    target: int
    allowed: NDArray[np.bool_]
    """(A,)."""
    values: NDArray[np.float64]
    """(F,) raw."""
    q_values: NDArray[np.float32]
    """(A,)."""
    baseline_q_values: NDArray[np.float32]
    """(A,)."""
    attributions: NDArray[np.float32]
    """(A, F)."""
    completeness_error: float


def document_of(row: Explained) -> dict[str, Any]:
    """The explanation of one decision as JSON values."""
    rival = runner_up(row)
    own = row.attributions[row.action].astype(np.float64)  # (F,)
    preference = None if rival is None else own - row.attributions[rival]
    return {
        "action": row.action.name,
        "next_best_action": None if rival is None else rival.name,
        "q_value": float(row.q_values[row.action]),
        "baseline_q_value": float(row.baseline_q_values[row.action]),
        "features": [
            {
                "name": feature.name,
                "unit": feature.unit,
                "value": float(row.values[index]),
                "baseline": BASELINE[feature.name],
                "attribution": float(own[index]),
                "preference": None if preference is None else float(preference[index]),
            }
            for index, feature in enumerate(FEATURES)
        ],
        "completeness_error": row.completeness_error,
        "method": METHOD,
        "sentence": sentence(row, rival, preference),
    }


def runner_up(row: Explained) -> ScaleAction | None:
    """The allowed action with the second highest Q-value; None if only one is allowed."""
    others = [action for action in ScaleAction if row.allowed[action] and action is not row.action]
    return max(others, key=lambda action: row.q_values[action], default=None)


def sentence(
    row: Explained, rival: ScaleAction | None, preference: NDArray[np.float64] | None
) -> str:
    """Why this action, in one sentence."""
    pods = (
        f"{row.current} to {row.target} replicas"
        if row.current != row.target
        else (f"stay at {row.current} replicas")
    )
    begin = f"{row.action.name} ({pods})"
    if rival is None or preference is None:
        return f"{begin}: the bounds allow no other action."
    for_it, against = _strongest(row, preference), _strongest(row, -preference)
    begin = f"{begin} is preferred to {rival.name}"
    if for_it:
        but = f", {' and '.join(against)} against it" if against else ""
        return f"{begin}: compared with a calm workload, {_speak(for_it)} for it{but}."
    # The lead is then that at the baseline, less what the features take from it.
    but = (
        f"{_speak(against)} against it, but not enough" if against else "nothing speaks against it"
    )
    return f"{begin}: so it is for a calm workload, and {but}."


def _speak(features: list[str]) -> str:
    return f"{' and '.join(features)} {'speaks' if len(features) == 1 else 'speak'}"


def _strongest(row: Explained, preference: NDArray[np.float64]) -> list[str]:
    """The features that speak most for something, with their values."""
    least = _WORTH_TELLING * float(np.abs(preference).max())
    order = [
        index
        for index in np.argsort(-preference)[:_TOLD].tolist()
        if preference[index] > 0.0 and preference[index] >= least
    ]
    return [
        f"{NAMES[index]} {_measured(row, index)} (calm {BASELINE[NAMES[index]]:.4g})"
        for index in order
    ]


def _measured(row: Explained, index: int) -> str:
    """A feature's value with its unit; a ratio has none."""
    value, unit = f"{row.values[index]:.4g}", FEATURES[index].unit
    return value if unit == "ratio" else f"{value} {unit}"
