"""From a network that knows every price to the one that is served: which price, and which seed.

The multiplier of the exported network is where dual ascent ends when it is measured on whole days
instead of single hours: the lowest price at which the calibration windows keep the budget, inside
the guard. The frontier on both sides of it comes for free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.policy.guard import GuardSettings
from training.dqn import condition_of
from training.dueling_network import DuelingNetwork, freeze_conditions, q_values_of
from training.evaluate import Court, Judgement, judge_family
from training.policies import ActionPolicy, QFunction, network_decisions

MULTIPLIERS: Final = (3.0, 4.5, 7.0, 10.0, 15.0, 22.0, 33.0, 50.0, 75.0)
"""Prices tried, each half as much again as the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A multiplier and what it was chosen from."""

    multiplier: float
    chosen: Judgement
    family: tuple[Judgement, ...]
    """The same network at every multiplier, in their order."""


def judge_multipliers(
    network: DuelingNetwork,
    multipliers: Sequence[float],
    court: Court,
    *,
    rails: GuardSettings | None,
    label: str,
) -> list[Judgement]:
    """One network at many prices, side by side."""

    def make(values: NDArray[np.float64]) -> ActionPolicy:
        decide = network_decisions(conditioned(network, values), court.objective)
        return ActionPolicy(label, decide, court.objective, rails=rails)

    return judge_family(make, multipliers, court, label=f"{label}:{{:g}}")


def conditioned(network: DuelingNetwork, multipliers: NDArray[np.float64]) -> QFunction:
    """The Q-function of a network that is told a price for each row."""
    told = condition_of(multipliers).astype(np.float32)[:, None]

    def q_function(state: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = np.concatenate((state, told), axis=1) if network.conditions else state
        values: NDArray[np.float32] = q_values_of(network, inputs)
        return values

    return q_function


def calibrate(
    network: DuelingNetwork,
    court: Court,
    *,
    rails: GuardSettings | None,
    multipliers: Sequence[float] = MULTIPLIERS,
) -> Calibration:
    """Choose the cheapest price that keeps the budget, else the least violating one."""
    family = judge_multipliers(network, multipliers, court, rails=rails, label="dqn")
    budget = court.objective.violation_budget_ratio
    keeping = [index for index, each in enumerate(family) if each.mean_violation_ratio <= budget]
    if keeping:
        best = min(keeping, key=lambda index: family[index].total_pod_hours)
    else:
        best = min(range(len(family)), key=lambda index: family[index].mean_violation_ratio)
    return Calibration(
        multiplier=float(multipliers[best]), chosen=family[best], family=tuple(family)
    )


def freeze(network: DuelingNetwork, multiplier: float) -> DuelingNetwork:
    """The network of the state alone at one price."""
    if not network.conditions:
        return network
    return freeze_conditions(network, [float(condition_of(np.array([multiplier]))[0])])
