"""From a network that knows every price to the one that is served: which price, and which seed.

The multiplier of the exported network is where dual ascent ends when it is measured on whole days
instead of single hours: the cheapest price at which the calibration windows keep what the gate will
ask of windows that nobody has seen, inside the guard. The frontier on both sides comes for free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.policy.guard import GuardSettings
from training.dqn import condition_of
from training.dueling_network import DuelingNetwork, freeze_conditions, q_values_of
from training.edges import Edges, edges_of
from training.evaluate import Court, Judgement, judge_family, window_excess_ratio
from training.gate import GateSettings
from training.objective import Objective
from training.policies import ActionPolicy, QFunction, network_decisions

BUDGET_SHARE: Final = 0.9
"""Share of the violation budget that a price may use on the calibration windows. What a policy
violates on other days differs by a tenth and more: 0.472 % became 0.555 % for one candidate."""
MULTIPLIERS: Final = (
    2.0, 3.0, 4.5, 7.0, 8.5, 10.0, 12.0, 15.0, 18.0, 22.0, 27.0, 33.0, 40.0, 50.0, 75.0,
)  # fmt: skip
"""Prices tried, a fifth apart where the choice mostly falls: a step of half costs 1 % to 2 % of all
pod-hours there."""


class Figures(NamedTuple):
    """What a price, or a seed at its price, is chosen by."""

    pod_hours: float
    mean_violation_ratio: float
    window_excess_ratio: float
    """Violations above the rival's, or the budget, in the worst window; 0 without a rival."""
    idle_additions_ratio: float = 0.0
    """`training.edges.Edges.idle_additions_ratio`."""
    saturated_neglect_ratio: float = 0.0
    """`training.edges.Edges.saturated_neglect_ratio`."""
    spare_kept_ratio: float = 0.0
    """`training.edges.Edges.spare_kept_ratio`."""
    turns_ratio: float = 0.0
    """Direction changes over the rival's; 0 without a rival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A multiplier and what it was chosen from."""

    multiplier: float
    chosen: Judgement
    family: tuple[Judgement, ...]
    """The same network at every multiplier, in their order."""
    window_excess_ratio: float = 0.0
    """`Figures.window_excess_ratio` of the chosen multiplier."""
    turns_ratio: float = 0.0
    """`Figures.turns_ratio` of the chosen multiplier."""
    edges: Edges
    """What the network does in idle and in saturated states at the chosen multiplier."""


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


def q_function_at(network: DuelingNetwork, multiplier: float) -> QFunction:
    """The Q-function that would be served: the network at one price."""
    frozen = freeze(network, multiplier)

    def q_function(state: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = q_values_of(frozen, state)
        return values

    return q_function


def limits_for(objective: Objective) -> GateSettings:
    """What the gate will ask, with a share of the budget kept for days that differ."""
    return GateSettings(violation_budget_ratio=BUDGET_SHARE * objective.violation_budget_ratio)


def choose(options: Sequence[Figures], limits: GateSettings) -> int:
    """Which of some options to take: the cheapest that keeps the gate's limits.

    The budget is asked first, then what is done in idle and in saturated states, then whether it
    turns round less than the rival, then the limit on single windows. A limit that none keeps of
    those left is passed over, but where none keeps the budget, the least violating one is taken.
    """
    left = [
        index
        for index, each in enumerate(options)
        if each.mean_violation_ratio <= limits.violation_budget_ratio
    ]
    if not left:
        return min(range(len(options)), key=lambda index: options[index].mean_violation_ratio)
    left = [i for i in left if _sane(options[i], limits)] or left
    left = [i for i in left if options[i].turns_ratio < limits.turns_ratio] or left
    even = [i for i in left if options[i].window_excess_ratio <= limits.window_excess_ratio]
    return min(even or left, key=lambda index: options[index].pod_hours)


def _sane(option: Figures, limits: GateSettings) -> bool:
    return (
        option.idle_additions_ratio <= limits.idle_additions_ratio
        and option.saturated_neglect_ratio <= limits.saturated_neglect_ratio
        and option.spare_kept_ratio <= limits.spare_kept_ratio
    )


def calibrate(
    network: DuelingNetwork,
    court: Court,
    *,
    rails: GuardSettings | None,
    multipliers: Sequence[float] = MULTIPLIERS,
    rival: Judgement | None = None,
) -> Calibration:
    """Choose a price as `choose` does.

    Args:
        network: A network that knows every price.
        court: The calibration windows.
        rails: The guard; None judges the network raw.
        multipliers: Prices to try.
        rival: The HPA over the same windows, whose worst windows excuse ours; None looks at the
            mean over the windows alone.
    """
    family = judge_multipliers(network, multipliers, court, rails=rails, label="dqn")
    budget = court.objective.violation_budget_ratio
    options = [
        Figures(
            each.total_pod_hours,
            each.mean_violation_ratio,
            window_excess_ratio(each, rival, budget) if rival is not None else 0.0,
            *edges_of(q_function_at(network, multiplier), court.objective),
            turns_ratio=each.turns_per_hour / rival.turns_per_hour if rival is not None else 0.0,
        )
        for multiplier, each in zip(multipliers, family, strict=True)
    ]
    best = choose(options, limits_for(court.objective))
    return Calibration(
        multiplier=float(multipliers[best]),
        chosen=family[best],
        family=tuple(family),
        window_excess_ratio=options[best].window_excess_ratio,
        turns_ratio=options[best].turns_ratio,
        edges=Edges(
            options[best].idle_additions_ratio,
            options[best].saturated_neglect_ratio,
            options[best].spare_kept_ratio,
        ),
    )


def freeze(network: DuelingNetwork, multiplier: float) -> DuelingNetwork:
    """The network of the state alone at one price."""
    if not network.conditions:
        return network
    return freeze_conditions(network, [float(condition_of(np.array([multiplier]))[0])])
