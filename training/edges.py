"""What a network does without a guard at both ends of the load, over fixed grids of states.

Traffic of the judged windows never ceases or nearly so, and their guard answers a doubling by
itself, so no figure of theirs tells whether a policy adds pods to an idle workload, keeps those
that a nearly idle one can spare, or leaves a saturated one alone. There is no reason for any of it,
whatever memory the pods hold and however full the nodes are.
"""

from __future__ import annotations

from collections.abc import Sequence
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

Axes = tuple[tuple[str, tuple[float, ...]], ...]
"""Features and the values that each takes."""
_PODS: Final = (0, 1, 2, 4)
"""Pods beyond the objective's minimum: 1, 2, 3 and 5 by default."""
_CPU: Final = (0.0, 0.01, 0.02, 0.05)
"""What a pod uses for itself; the simulator's idle pods use as much."""
_SHARES: Final = (0.02, 0.1, 0.3, 0.5, 0.7, 0.95)
"""Of each: memory in use by the pods, memory in use on the nodes, CPU in use on the nodes."""
_SATURATED: Final[Axes] = (
    ("cpu_utilization", (0.95, 1.0)),
    ("queue_depth", (40.0, 100.0)),
    ("response_time_p95", (1.0, 5.0)),
    ("error_rate", (0.02, 0.1)),
    ("cpu_throttling", (0.0, 0.3)),
    ("memory_utilization", (0.05, 0.3, 0.6, 0.95)),
    ("node_utilization", (0.05, 0.3, 0.7, 0.95)),
)
_SATURATED_PODS: Final = (0, 1, 2, 4, 9)
_BYTES_PER_REQUEST: Final = 3000.0
"""As in the simulator's nominal cluster."""


_SPARE: Final[Axes] = (
    ("cpu_utilization", (0.005, 0.02, 0.05, 0.1)),
    ("response_time_p95", (0.05, 0.1, 0.2)),
    ("memory_utilization", (0.05, 0.3, 0.6)),
    ("memory_pressure", (0.1, 0.4, 0.7, 0.95)),
    ("node_utilization", (0.05, 0.3, 0.7, 0.95)),
)
_SPARE_PODS: Final = (1, 2, 4)
"""Beyond the minimum, which is enough for what these serve: half a pod at most."""


class EdgeStates(NamedTuple):
    """A grid."""

    state: NDArray[np.float32]
    """(B, F) in [0, 1]."""
    mask: NDArray[np.bool_]
    """Actions that the objective's bounds allow (B, A)."""


class Edges(NamedTuple):
    """What a network does wrong at the edges."""

    idle_additions_ratio: float = 0.0
    """Share of the idle states that it answers with more pods."""
    saturated_neglect_ratio: float = 0.0
    """Share of the saturated states that it answers without a further pod."""
    spare_kept_ratio: float = 0.0
    """Share of the nearly idle states that it answers without giving a spare pod back."""


def idle_states(objective: Objective) -> EdgeStates:
    """Every combination of pods, CPU, memory, memory pressure and node utilization; all else 0."""
    grid = np.array(list(product(_PODS, _CPU, _SHARES, _SHARES, _SHARES)))  # (B, 5)
    raw = np.zeros((len(grid), STATE_DIM))
    raw[:, INDEX["pod_count"]] = _pods(grid[:, 0], objective)
    raw[:, INDEX["cpu_utilization"]] = grid[:, 1]
    raw[:, INDEX["memory_utilization"]] = grid[:, 2]
    raw[:, INDEX["memory_pressure"]] = grid[:, 3]
    raw[:, INDEX["node_utilization"]] = grid[:, 4]
    return _states(raw, objective)


def saturated_states(objective: Objective) -> EdgeStates:
    """Pods that are never idle, with requests in flight, late answers and errors."""
    raw = _busy_grid(_SATURATED_PODS, _SATURATED, objective)
    raw[:, INDEX["memory_pressure"]] = raw[:, INDEX["node_utilization"]]
    return _states(raw, objective)


def spare_states(objective: Objective) -> EdgeStates:
    """Two pods and more for what half a pod can do: a request now and then, answered in time."""
    return _states(_busy_grid(_SPARE_PODS, _SPARE, objective), objective)


def edges_of(q_function: QFunction, objective: Objective) -> Edges:
    """Ask a network about the three grids.

    A saturated workload at its upper bound may not have more, and is not asked about; nor is a
    spare pod that the lower bound keeps.
    """
    idle = _changes(q_function, idle_states(objective))
    saturated = saturated_states(objective)
    free = saturated.mask[:, CHANGES > 0].any(axis=1)
    neglected = _changes(q_function, saturated)[free] <= 0
    spare = spare_states(objective)
    removable = spare.mask[:, CHANGES < 0].any(axis=1)
    kept = _changes(q_function, spare)[removable] >= 0
    return Edges(
        idle_additions_ratio=float(np.mean(idle > 0)),
        saturated_neglect_ratio=float(np.mean(neglected)) if free.any() else 0.0,
        spare_kept_ratio=float(np.mean(kept)) if removable.any() else 0.0,
    )


def _busy_grid(beyond: Sequence[int], axes: Axes, objective: Objective) -> NDArray[np.float64]:
    """Every combination of pods beyond the minimum and of raw features, all else 0 (B, F).

    Requests and traffic are those that the CPU in use speaks of.
    """
    names, values = zip(*axes, strict=True)
    grid = np.array(list(product(beyond, *values)))  # (B, 1 + features)
    raw = np.zeros((len(grid), STATE_DIM))
    pods = _pods(grid[:, 0], objective)
    raw[:, INDEX["pod_count"]] = pods
    raw[:, [INDEX[name] for name in names]] = grid[:, 1:]
    rate = pods * raw[:, INDEX["cpu_utilization"]] * objective.pod_rate
    raw[:, INDEX["request_rate"]] = rate
    raw[:, INDEX["network_io_rate"]] = rate * _BYTES_PER_REQUEST
    return raw


def _pods(beyond: NDArray[np.float64], objective: Objective) -> NDArray[np.float64]:
    pods: NDArray[np.float64] = np.minimum(beyond + objective.min_replicas, objective.max_replicas)
    return pods


def _states(raw: NDArray[np.float64], objective: Objective) -> EdgeStates:
    pods = raw[:, INDEX["pod_count"]].astype(np.int64)
    decided = np.zeros(len(raw), dtype=np.bool_)
    return EdgeStates(normalize(raw).state, mask_of(pods, bounds_of(objective, len(raw)), decided))


def _changes(q_function: QFunction, states: EdgeStates) -> NDArray[np.int64]:
    """Pods added in each state (B,); negative when removed."""
    return CHANGES[choose_allowed(q_function(states.state), states.mask)]
