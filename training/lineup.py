"""Who stands before the judge: baseline families with their sweeps, the oracle, single policies.

A policy is named on the command line as `family:value`, for example `hpa:0.70`, `square-root:1.2`,
`static:12`; `version:DIRECTORY` and `endpoint:URL` name what was learnt, raw, and a `guarded+` in
front puts the guard around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX, POD_COUNT
from nimbusguard.policy.guard import GuardSettings
from training.baselines.hpa import CpuHpa, RequestRateHpa
from training.baselines.kpa import KnativePodAutoscaler
from training.baselines.oracle import Oracle, Pricing, plan, price
from training.baselines.staffing import SquareRootStaffing, StaticReplicas
from training.evaluate import Court, Judgement, judge_family
from training.objective import Objective
from training.policies import (
    ActionPolicy,
    endpoint_decisions,
    network_decisions,
    version_q_function,
)
from training.simulator.interface import Observation, PodMetrics, Policy

_CPU: Final = INDEX["cpu_utilization"]
_WINDOW_INTERVALS: Final = 20
"""The stabilization window of the staffing rule: that of the HPA, 300 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A policy with one setting, and what that is swept over."""

    label: str
    """Name of a member, with a format field for its setting."""
    make: Callable[[NDArray[np.float64], Objective], Policy]
    values: tuple[float, ...]

    def judge(self, court: Court) -> list[Judgement]:
        """All members over a court, side by side."""
        return judge_family(
            lambda values: self.make(values, court.objective),
            self.values,
            court,
            label=self.label,
        )


class PrometheusHpa:
    """The CPU HPA on the CPU series that the network sees, as a Prometheus adapter would give it.

    The metrics API is read from the nodes every 15 s; a recorded rate over a minute is half a
    minute older. Beside the HPA on the metrics API it tells the worth of the policy from the worth
    of fresher numbers.
    """

    def __init__(self, target: NDArray[np.float64]) -> None:
        """Make the policy for targets lane by lane (N,)."""
        self.name = "hpa-prometheus"
        self._hpa = CpuHpa(target)

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        pods = np.nan_to_num(observation.raw[:, POD_COUNT], nan=1.0).astype(np.int64)
        none = np.zeros_like(pods)
        seen = PodMetrics(
            cpu_utilization=observation.raw[:, _CPU], measured=pods, missing=none, unready=none
        )
        return self._hpa.act(observation._replace(pods=seen))


def _grid(first: float, last: float, step: float) -> tuple[float, ...]:
    count = round((last - first) / step) + 1
    return tuple(round(first + step * index, 6) for index in range(count))


FAMILIES: Final[dict[str, Family]] = {
    "hpa": Family(
        label="hpa:{:.2f}",
        make=lambda values, _: CpuHpa(values),
        values=_grid(0.50, 0.84, 0.02),
    ),
    "hpa-prometheus": Family(
        label="hpa-prometheus:{:.2f}",
        make=lambda values, _: PrometheusHpa(values),
        values=_grid(0.50, 0.82, 0.04),
    ),
    "rps": Family(
        label="rps:{:.2f}",
        # In requests/s of one pod's capacity, so that the sweep fits every objective.
        make=lambda values, objective: RequestRateHpa(values * objective.pod_rate),
        values=_grid(0.50, 0.90, 0.05),
    ),
    "kpa": Family(
        label="kpa:{:.2f}",
        make=lambda values, _: KnativePodAutoscaler(values),
        values=_grid(0.40, 0.90, 0.10),
    ),
    "square-root": Family(
        label="square-root:{:.2f}",
        make=lambda values, objective: SquareRootStaffing(
            values, objective.service_time_s, window_intervals=_WINDOW_INTERVALS
        ),
        values=_grid(0.6, 2.0, 0.2),
    ),
    "static": Family(
        label="static:{:.0f}",
        make=lambda values, _: StaticReplicas(values.astype(np.int64)),
        values=_grid(14.0, 26.0, 3.0),
    ),
}
"""Name to family. The HPA's grid is fine, because its best member is what a policy must beat."""

ORACLE_MULTIPLIERS: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Pod-seconds that the oracle pays to avoid one violating request."""


def pricings_of(court: Court) -> list[Pricing]:
    """What the oracle knows of every episode of a court."""
    lanes, episodes = court.lanes(), court.episodes()
    lanes.reset(np.arange(len(episodes)), episodes)
    first = lanes.current_replicas
    pricings = []
    for lane, episode in enumerate(episodes):
        own = {name: float(values[lane]) for name, values in lanes.parameters.items()}
        pricings.append(price(episode, int(first[lane]), own, court.objective))
    return pricings


def judge_oracle(court: Court, multipliers: Sequence[float]) -> list[Judgement]:
    """The clairvoyant oracle at several prices of a violation: the floor of cost."""
    pricings = pricings_of(court)

    def make(values: NDArray[np.float64]) -> Policy:
        plans = [
            plan(pricings[index % len(pricings)], float(value), court.objective)
            for index, value in enumerate(values)
        ]
        return Oracle(plans, court.objective.interval_s)

    return judge_family(make, multipliers, court, label="oracle:{:g}")


def policy_named(text: str, objective: Objective, rails: GuardSettings) -> Policy:
    """The policy that a command line names.

    Raises:
        InvalidRequest: Nothing is called so.
    """
    kind, _, value = text.removeprefix("guarded+").partition(":")
    wrapped = text.startswith("guarded+")
    guard = rails if wrapped else None
    where = "guarded" if wrapped else "raw"
    if kind == "version":
        q_function = version_q_function(Path(value))
        decide = network_decisions(q_function, objective)
        # The last folder is the version's number; the path to it says nothing to a reader.
        name = f"version {Path(value).name}, {where}"
        return ActionPolicy(name, decide, objective, rails=guard, q_function=q_function)
    if kind == "endpoint":
        decide = endpoint_decisions(value, objective, httpx.Client())
        return ActionPolicy(f"endpoint, {where}", decide, objective, rails=guard)
    if kind in FAMILIES and not wrapped:
        return _member(text, kind, value, objective)
    message = (
        f"policy: expected version:DIRECTORY, endpoint:URL, either after guarded+, or one of "
        f"{sorted(FAMILIES)} with a value, got {text!r}"
    )
    raise InvalidRequest(message)


def _member(text: str, kind: str, value: str, objective: Objective) -> Policy:
    try:
        number = float(value)
    except ValueError as error:
        message = f"policy {kind}: expected a number after the colon, got {text!r}"
        raise InvalidRequest(message) from error
    return _Named(text, FAMILIES[kind], number, objective)


class _Named:
    """One member of a family, with its setting given to as many lanes as come."""

    def __init__(self, name: str, family: Family, value: float, objective: Objective) -> None:
        self.name = name
        self._family, self._value, self._objective = family, value, objective
        self._policy: Policy | None = None

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        if self._policy is None:
            values = np.full(len(observation.lane), self._value)
            self._policy = self._family.make(values, self._objective)
        return self._policy.act(observation)
