"""What the report plots: which runs are replayed, which slices of Q are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from nimbusguard.contract.features import INDEX, STATE_DIM
from nimbusguard.contract.normalization import normalize
from training import plots
from training.evaluate import Court, Judgement, best_within
from training.objective import Objective
from training.policies import ActionPolicy
from training.simulator.interface import Policy
from training.simulator.rollout import rollout
from training.verdict import RIVAL_FAMILY, points_of

_CALM: Final = {
    "cpu_utilization": 0.7,
    "memory_utilization": 0.4,
    "network_io_rate": 3e5,
    "request_rate": 140.0,
    "pod_count": 10.0,
    "response_time_p95": 0.08,
    "error_rate": 0.0,
    "queue_depth": 7.0,
    "cpu_throttling": 0.1,
    "memory_pressure": 0.4,
    "node_utilization": 0.3,
}
"""Ten pods of which seven are busy: the point through which Q is cut."""
_SLICES: Final = {
    "cpu_utilization": (0.3, 1.0),
    "queue_depth": (0.0, 40.0),
    "response_time_p95": (0.0, 1.0),
}


def frontier_plot(families: Mapping[str, Sequence[Judgement]], objective: Objective) -> str:
    """Pod-hours against violations, every family."""
    return plots.frontiers(
        {name: points_of(members) for name, members in families.items() if members},
        objective.violation_budget_ratio,
    )


def courses(
    court: Court,
    policies: Sequence[Policy],
    families: Mapping[str, Sequence[Judgement]],
    per_group: int,
) -> list[str]:
    """Load and replicas of the first windows of each service, policies beside the best HPA."""
    from training.lineup import FAMILIES

    rival = best_within(families[RIVAL_FAMILY], court.objective.violation_budget_ratio)
    windows = [
        window
        for group in court.groups()
        for window in [each for each in court.windows if each.group == group][:per_group]
    ]
    small = replace(court, windows=windows, seeds=court.seeds[:1])
    target = float(rival.policy.partition(":")[2])
    best = FAMILIES[RIVAL_FAMILY].make(np.full(len(windows), target), court.objective)
    played = {
        name: rollout(small.lanes(), policy, small.episodes(), record=True)
        for name, policy in [*((each.name, each) for each in policies), (rival.policy, best)]
    }
    busy_s = court.objective.service_time_s / court.objective.interval_s
    figures = []
    for index, window in enumerate(windows):
        length = int(next(iter(played.values())).decisions[index])
        figures.append(
            plots.course(
                window.name,
                court.objective.interval_s,
                next(iter(played.values())).load[:length, index] * busy_s,
                {name: each.replicas[:length, index] for name, each in played.items()},
            )
        )
    return figures


def action_plot(policies: Sequence[Policy]) -> str | None:
    """How often each learned policy took each action; None if there is none."""
    counts = {each.name: each.actions for each in policies if isinstance(each, ActionPolicy)}
    return plots.action_mix(counts) if counts else None


def q_plots(policies: Sequence[Policy]) -> list[str]:
    """Slices of Q through one calm state, for the first policy whose network is at hand."""
    for policy in policies:
        if isinstance(policy, ActionPolicy) and policy.q_function is not None:
            q_function = policy.q_function
            break
    else:
        return []
    figures = []
    calm = np.array(list(_CALM.values()))
    for feature, (low, high) in _SLICES.items():
        values = np.linspace(low, high, 101)
        raw = np.tile(calm, (len(values), 1)).reshape(-1, STATE_DIM)
        raw[:, INDEX[feature]] = values
        q_values = q_function(normalize(raw).state)
        figures.append(plots.q_curves(feature, values, q_values, "10 pods, 7 busy"))
    return figures
