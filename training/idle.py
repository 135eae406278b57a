"""What a network does with a workload that nobody asks anything of, over a fixed grid of states.

Traffic of the judged windows never ceases, so no figure of theirs tells whether a policy adds pods
to an idle workload. There is no reason to, whatever memory the pods hold and however full the nodes
are: such an addition is wrong, and taken back and made again it is a cycle without end.
"""

from __future__ import annotations

from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES
from nimbusguard.contract.features import INDEX, STATE_DIM
from nimbusguard.contract.normalization import normalize
from nimbusguard.policy.greedy import choose_allowed
from training.lanes import bounds_of, mask_of
from training.objective import Objective
from training.policies import QFunction

_PODS: Final = (0, 1, 2, 4)
"""Pods beyond the objective's minimum: 1, 2, 3 and 5 by default."""
_CPU: Final = (0.0, 0.01, 0.02, 0.05)
"""What a pod uses for itself; the simulator's idle pods use as much."""
_SHARES: Final = (0.02, 0.1, 0.3, 0.5, 0.7, 0.95)
"""Of each: memory in use by the pods, memory in use on the nodes, CPU in use on the nodes."""


class IdleStates(NamedTuple):
    """The grid."""

    state: NDArray[np.float32]
    """(B, F) in [0, 1]; whatever is not named above is 0, as without a request."""
    mask: NDArray[np.bool_]
    """Actions that the objective's bounds allow (B, A)."""


def idle_states(objective: Objective) -> IdleStates:
    """Every combination of pods, CPU, memory, memory pressure and node utilization."""
    grid = np.array(list(product(_PODS, _CPU, _SHARES, _SHARES, _SHARES)))  # (B, 5)
    pods = np.minimum(grid[:, 0] + objective.min_replicas, objective.max_replicas)
    raw = np.zeros((len(grid), STATE_DIM))
    raw[:, INDEX["pod_count"]] = pods
    raw[:, INDEX["cpu_utilization"]] = grid[:, 1]
    raw[:, INDEX["memory_utilization"]] = grid[:, 2]
    raw[:, INDEX["memory_pressure"]] = grid[:, 3]
    raw[:, INDEX["node_utilization"]] = grid[:, 4]
    decided = np.zeros(len(grid), dtype=np.bool_)
    mask = mask_of(pods.astype(np.int64), bounds_of(objective, len(grid)), decided)
    return IdleStates(normalize(raw).state, mask)


def idle_additions_ratio(q_function: QFunction, objective: Objective) -> float:
    """Share of the idle states in which the network, without a guard, adds pods."""
    states = idle_states(objective)
    action = choose_allowed(q_function(states.state), states.mask)
    return float(np.mean(CHANGES[action] > 0))
