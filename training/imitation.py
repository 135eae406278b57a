"""States with the answer of the HPA rule beside them, and how well a network reproduces it. Pure.

The rule reads two of the eleven features, `cpu_utilization` and `pod_count`; the other nine are
drawn independently, so that a network has to learn that they do not matter. CPU is drawn within the
bounds of its feature: above them the state is clipped, and no network can see what the rule saw.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import (
    CHANGES,
    DEFAULT_MAX_REPLICAS,
    DEFAULT_MIN_REPLICAS,
    ScaleAction,
)
from nimbusguard.contract.features import INDEX, MAXIMUM, MINIMUM, POD_COUNT, STATE_DIM
from nimbusguard.contract.normalization import normalize
from nimbusguard.policy.hpa import DEFAULT_TOLERANCE, desired_replicas_batch

CPU_TARGET: Final = 0.70
"""The usual `averageUtilization` of an HPA on CPU."""
_CPU: Final = INDEX["cpu_utilization"]
_MAX_PODS: Final = int(MAXIMUM[POD_COUNT])
_SIDE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How `cpu_utilization` and `pod_count` are drawn; uniform where nothing else is said."""

    near_boundary: float = 0.0
    """Share of states whose CPU lies near a point where the rule changes its mind."""
    distance: float = 0.02
    """How near: CPU within ± this of such a point, uniformly."""
    few_pods: float = 0.0
    """Share of states whose pod count is log-uniform: few pods are common, and hardest."""
    max_pods: int = _MAX_PODS
    """Highest pod count drawn."""


class Labelled(NamedTuple):
    """States and the rule's answers."""

    state: NDArray[np.float32]
    """(B, F) in [0, 1]."""
    action: NDArray[np.int64]
    """Index of the rule's action (B,)."""


def rule_actions(cpu: NDArray[np.float64], pods: NDArray[np.int64]) -> NDArray[np.int64]:
    """The action nearest to what the HPA rule wants.

    Args:
        cpu: Raw CPU utilization (B,).
        pods: Pod counts (B,), at least 1.

    Returns:
        Action indices (B,): desired minus current replicas, desired within the default bounds, the
        change within ± 2.
    """
    desired = desired_replicas_batch(pods, cpu / CPU_TARGET)
    bounded = np.clip(desired, DEFAULT_MIN_REPLICAS, DEFAULT_MAX_REPLICAS)
    change = np.clip(bounded - pods, CHANGES[0], CHANGES[-1])
    actions: NDArray[np.int64] = change + int(ScaleAction.NO_ACTION)
    return actions


def _boundaries() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Candidates (N, 6) for the CPU at which the rule changes its mind, and where it really does.

    Row n - 1 is for n pods: the steps of the ceiling around n, and the edges of the tolerance.
    """
    pods = np.arange(1, _MAX_PODS + 1, dtype=np.int64)[:, None]  # (N, 1)
    steps = (pods + np.array([-2, -1, 0, 1])) / pods  # (N, 4)
    edges = np.broadcast_to([1 - DEFAULT_TOLERANCE, 1 + DEFAULT_TOLERANCE], (len(pods), 2))
    cpu = CPU_TARGET * np.concatenate((steps, edges), axis=1)  # (N, 6)
    rows = np.broadcast_to(pods, cpu.shape)
    below = rule_actions(np.maximum(cpu - _SIDE, 0.0), rows)
    above = rule_actions(np.maximum(cpu + _SIDE, 0.0), rows)
    return cpu, (below != above) & (cpu > 0) & (cpu < 1)


_BOUNDARY, _IS_BOUNDARY = _boundaries()


def sample(rng: np.random.Generator, count: int, sampling: Sampling) -> Labelled:
    """Draw states (B, F) and label them by the rule."""
    pods = rng.integers(1, sampling.max_pods + 1, count)  # (B,)
    few = np.exp(rng.uniform(0.0, np.log(sampling.max_pods + 1), count)).astype(np.int64)
    pods = np.where(rng.random(count) < sampling.few_pods, few, pods)
    cpu = rng.random(count)  # (B,)
    chosen = (rng.random((count, _BOUNDARY.shape[1])) * _IS_BOUNDARY[pods - 1]).argmax(axis=1)
    offset = rng.uniform(-sampling.distance, sampling.distance, count)
    near = np.clip(_BOUNDARY[pods - 1, chosen] + offset, 0.0, 1.0)
    cpu = np.where(rng.random(count) < sampling.near_boundary, near, cpu)
    raw = _other_features(rng, count)
    raw[:, _CPU] = cpu
    raw[:, POD_COUNT] = pods
    return Labelled(normalize(raw).state, rule_actions(cpu, pods))


def _other_features(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Raw features (B, F), uniform within their bounds, a quarter of them on a bound."""
    unit = rng.random((count, STATE_DIM))
    on_bound = rng.random((count, STATE_DIM)) < 0.25
    unit = np.where(on_bound, np.round(unit), unit)
    raw: NDArray[np.float64] = MINIMUM + unit * (MAXIMUM - MINIMUM)
    return raw


def target_q_values(actions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Q-values (B, A) that say how many replicas an action is off the rule's: 0, -1, … -4."""
    distance = np.abs(CHANGES - CHANGES[actions][:, None])  # (B, A)
    q_values: NDArray[np.float32] = (-distance).astype(np.float32)
    return q_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How often a network does what the rule does."""

    states: int
    agreement: float
    """Share of states whose highest Q-value is the rule's action."""
    opposite: float
    """Share of states where one scales up and the other down."""
    off_by_more_than_one: float
    """Share of states whose change differs by two replicas or more."""
    mean_q_error: float
    """Mean absolute difference of a Q-value from the one that it was fitted to."""

    def to_json(self) -> dict[str, Any]:
        """The figures as they stand in a version's metadata."""
        return asdict(self)


def agreement(q_values: NDArray[np.float32], actions: NDArray[np.int64]) -> Agreement:
    """Compare Q-values (B, A) with the rule's actions (B,)."""
    chosen = q_values.argmax(axis=1)
    changes, wanted = CHANGES[chosen], CHANGES[actions]
    return Agreement(
        states=len(actions),
        agreement=float((chosen == actions).mean()),
        opposite=float((changes * wanted < 0).mean()),
        off_by_more_than_one=float((np.abs(changes - wanted) > 1).mean()),
        mean_q_error=float(np.abs(q_values - target_q_values(actions)).mean()),
    )
