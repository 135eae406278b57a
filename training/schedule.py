"""How exploration, margin and multiplier change as training goes on: pure functions of progress."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def linear(start: float, end: float, progress: float) -> float:
    """A value that goes from `start` to `end` as `progress` goes from 0 to 1, and stays there."""
    share = min(max(progress, 0.0), 1.0)
    return start + (end - start) * share


def lane_epsilons(lanes: int, greedy_ratio: float, epsilon: float) -> NDArray[np.float64]:
    """Exploration rate of each lane, (L,): the first lanes never explore, the others do.

    The greedy lanes are the measure of the policy itself, from which the multiplier is learnt;
    violations that exploration causes must not count against the policy. The others share
    `epsilon` as in Ape-X (Horgan et al. 2018): epsilon^(1 + 3 i/(n-1)), from often to hardly ever.
    """
    greedy = round(lanes * greedy_ratio)
    exploring = lanes - greedy
    rates = np.zeros(lanes, dtype=np.float64)
    if exploring > 0 and epsilon > 0:
        place = np.arange(exploring) / max(exploring - 1, 1)
        rates[greedy:] = epsilon ** (1.0 + 3.0 * place)
    return rates


def ascend(
    multiplier: float, violation_ratio: float, budget: float, *, rate: float, ceiling: float
) -> float:
    """One step of dual ascent on the logarithm of the multiplier.

    The multiplier grows while the policy violates more than its budget and shrinks while it
    violates less. The relative excess is cut at ±1, so that one bad hour cannot undo what was
    learnt; steps on the logarithm keep the multiplier positive and its scale free.

    Source: Tessler, Mankowitz, Mannor 2019, "Reward Constrained Policy Optimization", eq. 9, in
    the multiplicative form.
    """
    excess = min(max(violation_ratio / budget - 1.0, -1.0), 1.0)
    return float(min(max(multiplier * np.exp(rate * excess), 1e-3), ceiling))
