"""`nimbusguard_model_accuracy`: how often a network does what the oracle does.

The oracle knows all arrivals beforehand and plays the validation windows. At each of its decisions
the network is shown the same observation; accuracy is the share of decisions at which the network's
best allowed action (argmax of Q under the mask) is the oracle's. States that the service would
refuse to decide on do not count. The oracle's price of a violation is the lowest of its sweep that
keeps the budget.

It is a figure to watch for jumps between versions, and no aim: many states have two actions of
nearly the same worth, and nobody who has to guess can do what the oracle does. The gate judges by
cost and violations.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES
from training.baselines.oracle import Oracle, plan
from training.evaluate import Court
from training.lanes import see
from training.lineup import ORACLE_MULTIPLIERS, pricings_of
from training.objective import Objective
from training.policies import QFunction, network_decisions
from training.simulator.interface import Observation
from training.simulator.rollout import rollout

_NO_ACTION: Final = int(np.flatnonzero(CHANGES == 0)[0])


class Witness:
    """Plays a plan and notes what a network would have done instead."""

    name = "oracle with a witness"

    def __init__(self, oracle: Oracle, q_function: QFunction, objective: Objective) -> None:
        self._oracle = oracle
        self._decide = network_decisions(q_function, objective)
        self.asked = 0
        """Decisions that count."""
        self.agreed = 0
        """Those at which the network chose as the oracle."""

    @property
    def ratio(self) -> float:
        """Share of the decisions that agree; 0 if there was none."""
        return self.agreed / max(self.asked, 1)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """The oracle's targets (N,)."""
        target = self._oracle.act(observation)
        wanted = action_of(target - observation.current_replicas)
        _, refused = see(observation.raw)
        counts = ~refused
        self.asked += int(counts.sum())
        self.agreed += int((self._decide(observation) == wanted)[counts].sum())
        return target


def action_of(change: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices (N,) of the actions that make a change of replicas."""
    distance = np.abs(CHANGES - change[:, None])
    nearest: NDArray[np.int64] = distance.argmin(axis=1)
    return nearest


def accuracy(q_function: QFunction, court: Court) -> float:
    """Agreement with the oracle over a court's windows and seeds, 0 to 1."""
    episodes, pricings = court.episodes(), pricings_of(court)
    ratio = 0.0
    for multiplier in ORACLE_MULTIPLIERS:
        plans = [plan(pricing, multiplier, court.objective) for pricing in pricings]
        oracle = Oracle(plans, court.objective.interval_s)
        witness = Witness(oracle, q_function, court.objective)
        played = rollout(court.lanes(), witness, episodes)
        ratio = witness.ratio
        violations = float(np.mean(played.violations / np.maximum(played.arrivals, 1.0)))
        if violations <= court.objective.violation_budget_ratio:
            break
    return ratio
