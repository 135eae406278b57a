"""The judge: any policy over named windows and seeds, with common random numbers.

Every policy meets the same traffic, the same pods and the same scrapes: an episode's chance comes
from its window and seed alone, whatever the policy does. So policies are compared window by window,
and the windows are what an interval resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.objective import Objective
from training.simulator.fluid import FluidQueue
from training.simulator.interface import Policy
from training.simulator.lanes import ClusterLanes
from training.simulator.metrics import histogram_quantile
from training.simulator.rollout import Rollout, rollout
from training.simulator.service import ServiceModel
from training.simulator.settings import SimulatorSettings
from training.simulator.workload import Episode, Workload
from training.statistics import FrontierPoint

_SEED_STRIDE: Final = 1_000_003
"""Between the seeds of one window: a prime far above the number of windows."""
Engine = Callable[[int, float], ServiceModel]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Court:
    """On what policies are judged."""

    windows: Sequence[Workload]
    """Traffic, W windows."""
    seeds: Sequence[int]
    """Random numbers, S seeds a window."""
    objective: Objective
    """What is asked for; its cluster is the one that is simulated."""
    engine: Engine = FluidQueue
    """Service model: the fast one, or the event-driven one."""
    decisions: int | None = None
    """Length of each window in decisions; None plays it to its end."""

    def episodes(self, copies: int = 1) -> list[Episode]:
        """One episode for each copy, window and seed, in this order."""
        return [
            Episode(
                workload=window,
                seed=seed * _SEED_STRIDE + index,
                scale=self.objective.busy_pods,
                decisions=self.decisions,
            )
            for _ in range(copies)
            for index, window in enumerate(self.windows)
            for seed in self.seeds
        ]

    def lanes(self, copies: int = 1) -> ClusterLanes:
        """Clusters for `episodes`."""
        return ClusterLanes(
            SimulatorSettings().nominal(self.objective),
            self.objective,
            copies * len(self.windows) * len(self.seeds),
            service=self.engine,
        )

    def groups(self) -> list[str]:
        """The services that the windows are of, in order of appearance."""
        return list(dict.fromkeys(window.group for window in self.windows))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """What one policy did; arrays are (W, S) over windows and seeds."""

    policy: str
    windows: tuple[str, ...]
    groups: tuple[str, ...]
    """The service of each window."""
    hours: NDArray[np.float64]
    pod_hours: NDArray[np.float64]
    requests: NDArray[np.float64]
    violations: NDArray[np.float64]
    changes: NDArray[np.float64]
    """Decisions that changed the replica count."""
    turns: NDArray[np.float64]
    """Changes in the other direction than the last one."""
    p95_s: NDArray[np.float64]
    p99_s: NDArray[np.float64]

    @property
    def window_violation_ratio(self) -> NDArray[np.float64]:
        """Share of the requests of each window that violated, over its seeds (W,)."""
        shares: NDArray[np.float64] = self.violations.sum(axis=1) / self.requests.sum(axis=1)
        return shares

    @property
    def mean_violation_ratio(self) -> float:
        """Mean over the windows: a quiet window counts as much as a busy one."""
        return float(self.window_violation_ratio.mean())

    @property
    def pooled_violation_ratio(self) -> float:
        """Violating requests of all windows over all their requests."""
        return float(self.violations.sum() / self.requests.sum())

    @property
    def total_pod_hours(self) -> float:
        """Pod-hours of all windows, in the mean over seeds."""
        return float(self.pod_hours.mean(axis=1).sum())

    @property
    def turns_per_hour(self) -> float:
        """Direction changes an hour."""
        return float(self.turns.sum() / self.hours.sum())

    @property
    def changes_per_hour(self) -> float:
        """Changes of the replica count an hour."""
        return float(self.changes.sum() / self.hours.sum())

    def point(self, label: str) -> FrontierPoint:
        """This policy as a point of its family's frontier."""
        return FrontierPoint(self.mean_violation_ratio, self.total_pod_hours, label)

    def of_group(self, group: str) -> Judgement:
        """The windows of one service alone."""
        rows = [index for index, name in enumerate(self.groups) if name == group]
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return Judgement(
            policy=self.policy,
            windows=tuple(self.windows[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
            **arrays,
        )

    def to_record(self) -> dict[str, Any]:
        """All of it, for `from_record` in another process."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"policy": self.policy, "windows": self.windows, "groups": self.groups, **arrays}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Judgement:
        """What `to_record` gave."""
        return cls(
            policy=record["policy"],
            windows=tuple(record["windows"]),
            groups=tuple(record["groups"]),
            **{name: np.array(record[name], dtype=np.float64) for name in _ARRAYS},
        )

    def to_json(self) -> dict[str, Any]:
        """Every figure, totals first."""
        return {
            "policy": self.policy,
            "mean_violation_ratio": self.mean_violation_ratio,
            "pooled_violation_ratio": self.pooled_violation_ratio,
            "worst_window_violation_ratio": float(self.window_violation_ratio.max()),
            "pod_hours": self.total_pod_hours,
            "p95_s": float(self.p95_s.mean()),
            "p99_s": float(self.p99_s.mean()),
            "changes_per_hour": self.changes_per_hour,
            "turns_per_hour": self.turns_per_hour,
            "windows": {
                window: {
                    "violation_ratio": float(self.window_violation_ratio[index]),
                    "pod_hours": float(self.pod_hours[index].mean()),
                }
                for index, window in enumerate(self.windows)
            },
        }


_ARRAYS: Final = (
    "hours",
    "pod_hours",
    "requests",
    "violations",
    "changes",
    "turns",
    "p95_s",
    "p99_s",
)


def judge(policy: Policy, court: Court) -> Judgement:
    """Play one policy over all windows and seeds."""
    played = rollout(court.lanes(), policy, court.episodes())
    return _judgements(played, court, [policy.name])[0]


def judge_family(
    make: Callable[[NDArray[np.float64]], Policy],
    values: Sequence[float],
    court: Court,
    *,
    label: str,
) -> list[Judgement]:
    """Play one policy family at many values of its one setting, side by side.

    Args:
        make: The policy for values given lane by lane (N,).
        values: What the setting is swept over.
        court: Windows and seeds.
        label: Name of each judgement, with `{:g}` for its value.
    """
    each = len(court.windows) * len(court.seeds)
    lane_values = np.repeat(np.asarray(values, dtype=np.float64), each)
    played = rollout(court.lanes(len(values)), make(lane_values), court.episodes(len(values)))
    return _judgements(played, court, [label.format(value) for value in values])


def _judgements(played: Rollout, court: Court, names: Sequence[str]) -> list[Judgement]:
    shape = (len(names), len(court.windows), len(court.seeds))
    interval_h = court.objective.interval_s / 3600.0
    completed = np.column_stack((played.responses, played.responses[:, -1]))
    table = {
        "hours": played.decisions * interval_h,
        "pod_hours": played.pod_seconds / 3600.0,
        "requests": np.maximum(played.arrivals, 1.0),
        "violations": played.violations,
        "changes": played.changes.astype(np.float64),
        "turns": played.turns.astype(np.float64),
        "p95_s": histogram_quantile(0.95, completed),
        "p99_s": histogram_quantile(0.99, completed),
    }
    shaped = {name: values.reshape(shape) for name, values in table.items()}
    return [
        Judgement(
            policy=name,
            windows=tuple(window.name for window in court.windows),
            groups=tuple(window.group for window in court.windows),
            **{key: values[index] for key, values in shaped.items()},
        )
        for index, name in enumerate(names)
    ]


def best_within(judgements: Sequence[Judgement], budget_ratio: float) -> Judgement:
    """The cheapest of a family that keeps a budget in the mean over the windows.

    Where none does, the least violating one: it is then the family's best attempt, and its own
    violations show that it failed.
    """
    keeping = [each for each in judgements if each.mean_violation_ratio <= budget_ratio]
    if keeping:
        return min(keeping, key=lambda each: each.total_pod_hours)
    return min(judgements, key=lambda each: each.mean_violation_ratio)


def window_excess_ratio(ours: Judgement, rival: Judgement, budget_ratio: float) -> float:
    """How much more than a rival, or than the budget, a policy violates in its worst window.

    Args:
        ours: The policy.
        rival: Another over the same windows.
        budget_ratio: What may violate in a window whatever the rival does.
    """
    allowed = np.maximum(rival.window_violation_ratio, budget_ratio)
    return float((ours.window_violation_ratio - allowed).max())


def hindsight_pod_hours(judgements: Sequence[Judgement], budget_ratio: float) -> float:
    """Pod-hours of a family whose setting is chosen anew for each window, after the fact.

    For each window the cheapest setting that keeps the budget there; where none does, the least
    violating one.
    """
    ratios = np.stack([each.window_violation_ratio for each in judgements])  # (K, W)
    costs = np.stack([each.pod_hours.mean(axis=1) for each in judgements])  # (K, W)
    within = np.where(ratios <= budget_ratio, costs, np.inf)
    attempt = np.take_along_axis(costs, ratios.argmin(axis=0)[None, :], axis=0)[0]
    best = within.min(axis=0)
    return float(np.where(np.isfinite(best), best, attempt).sum())
