"""All that differs from one cluster to another, with the range that training draws it from.

`SimulatorSettings()` is what training randomizes over. `nominal()` is the cluster that the
objective names, for evaluation. A value is drawn per lane and episode from the lane's seed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.errors import InvalidRequest
from training.objective import Objective
from training.simulator.draws import Purpose, uniform


class Range(NamedTuple):
    """Where a parameter is drawn from."""

    low: float
    high: float
    nominal: float
    """The value of `nominal()`."""
    logarithmic: bool = False
    """Draw its logarithm uniformly: a factor of two is as likely anywhere."""

    def at(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value at each quantile in [0, 1)."""
        if self.low == self.high:
            return np.full(unit.shape, self.low)
        if self.logarithmic:
            value: NDArray[np.float64] = self.low * (self.high / self.low) ** unit
        else:
            value = self.low + (self.high - self.low) * unit
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Ranges of the cluster's parameters. Units are in the names; `ratio` is of the pod's limit."""

    service_time_s: Range = field(default=Range(0.02, 0.1, 0.05, logarithmic=True))
    """Mean time that a request occupies a pod."""
    service_cv: Range = field(default=Range(0.1, 0.5, 0.3))
    """Coefficient of variation of the service time; lowered where the objective would be out of
    reach of an idle pod."""
    sharing_ratio: Range = field(default=Range(0.0, 1.0, 0.5))
    """0: one queue before all pods, one request at a time in each. 1: least-connections balancing
    over pods that share themselves among their requests. The fast engine interpolates."""
    pod_speed_cv: Range = field(default=Range(0.0, 0.15, 0.05))
    """Spread of the pods' service rates: other hardware, noisy neighbours."""
    startup_s: Range = field(default=Range(5.0, 120.0, 12.0, logarithmic=True))
    """Creation to readiness: scheduling, image, process, first readiness probe."""
    startup_cv: Range = field(default=Range(0.0, 0.3, 0.1))
    """Spread of the start-up time between the pods of one workload."""
    warm_s: Range = field(default=Range(0.0, 30.0, 5.0))
    """After readiness a pod is slower for so long: caches, compilation, connections."""
    warm_speed_ratio: Range = field(default=Range(0.5, 1.0, 0.9))
    """Speed while warming over full speed."""
    termination_s: Range = field(default=Range(1.0, 30.0, 2.0))
    """A removed pod is paid for so long while it drains, and gets no new request."""
    schedulable_pods: Range = field(default=Range(20.0, 200.0, 200.0))
    """Pods that the nodes have room for; the others stay pending."""
    cpu_share_ratio: Range = field(default=Range(0.85, 1.0, 0.95))
    """CPU of a pod that is never idle; the rest is waiting for something else."""
    idle_cpu_ratio: Range = field(default=Range(0.0, 0.05, 0.01))
    """CPU of a ready pod without requests."""
    startup_cpu_ratio: Range = field(default=Range(0.1, 1.0, 0.5))
    """CPU of a pod that starts."""
    throttling_gain: Range = field(default=Range(0.2, 1.0, 0.5))
    """Throttled seconds per second of a pod whose requests compete for its CPU limit."""
    memory_base_ratio: Range = field(default=Range(0.05, 0.6, 0.35))
    """Memory of an idle pod: from a small binary to a runtime that takes its heap at once."""
    memory_per_request_ratio: Range = field(default=Range(0.0005, 0.01, 0.002, logarithmic=True))
    """Memory of one request in flight; above the limit the pod is killed."""
    restart_backoff_s: Range = field(default=Range(10.0, 10.0, 10.0))
    """First restart delay after a kill; it doubles with each, up to 300 s (kubelet)."""
    backlog_per_pod: Range = field(default=Range(50.0, 500.0, 200.0, logarithmic=True))
    """Requests that may wait for each ready pod before the balancer refuses more."""
    timeout_s: Range = field(default=Range(1.0, 10.0, 5.0, logarithmic=True))
    """Clients give up after so long."""
    retry_ratio: Range = field(default=Range(0.0, 0.8, 0.3))
    """Share of failed attempts that the client repeats, each time anew."""
    retry_delay_s: Range = field(default=Range(1.0, 5.0, 2.0))
    """Mean time until it does."""
    wasted_ratio: Range = field(default=Range(0.0, 1.0, 0.5))
    """Share of the abandoned requests that a pod still works on."""
    bytes_per_request: Range = field(default=Range(300.0, 30000.0, 3000.0, logarithmic=True))
    """Bytes sent per request."""
    node_pods: Range = field(default=Range(30.0, 200.0, 80.0, logarithmic=True))
    """Capacity of the nodes, counted in pods of this workload."""
    neighbour_cpu_ratio: Range = field(default=Range(0.02, 0.95, 0.2))
    """Node CPU that other workloads use, up to a full node. It changes nothing for the workload,
    and a network learns that only where it sees it: trained on 0.05 to 0.5, one added two pods to
    idle workloads on nodes above 0.7."""
    neighbour_memory_ratio: Range = field(default=Range(0.02, 0.95, 0.35))
    """Node memory that other workloads use; as wide for the same reason."""
    scrape_s: Range = field(default=Range(5.0, 30.0, 15.0))
    """Prometheus scrape interval."""
    scrape_jitter_s: Range = field(default=Range(0.0, 1.5, 0.5))
    """A scrape comes at most so much after its time."""
    scrape_drop_ratio: Range = field(default=Range(0.0, 0.05, 0.01))
    """Scrapes that fail."""
    rate_window_s: Range = field(default=Range(30.0, 120.0, 60.0))
    """Window of `rate()`; at least 2.5 scrape intervals."""
    exporters: Range = field(default=Range(0.0, 1.0, 1.0))
    """Below 0.15 there is no throttling metric, from there to 0.3 no gauge of requests in flight:
    not every container runtime and HTTP library has them. Neither is absent in the nominal one."""
    rule_delay_s: Range = field(default=Range(0.0, 20.0, 5.0))
    """Age of the recorded series when it is asked for: rule evaluation and query."""

    def __post_init__(self) -> None:
        """Refuse a range that is empty, or does not hold its nominal value.

        Raises:
            InvalidRequest: The message names the field.
        """
        for name in PARAMETERS:
            low, high, nominal, logarithmic = getattr(self, name)
            if not low <= nominal <= high or low < 0 or (logarithmic and low == 0):
                message = (
                    f"simulator {name}: expected 0 <= low <= nominal <= high, "
                    f"got {low}, {nominal}, {high}"
                )
                raise InvalidRequest(message)

    def nominal(self, objective: Objective) -> SimulatorSettings:
        """The one cluster that an objective names: nothing is drawn."""
        fixed = {name: _fixed(getattr(self, name).nominal) for name in PARAMETERS}
        fixed["service_time_s"] = _fixed(objective.service_time_s)
        fixed["startup_s"] = _fixed(objective.startup_s)
        return replace(self, **fixed)

    def draw(
        self, seed: NDArray[np.uint64], objective: Objective
    ) -> dict[str, NDArray[np.float64]]:
        """One value of every parameter for each lane seed (N,)."""
        drawn = {
            name: getattr(self, name).at(uniform(seed, index, Purpose.PARAMETER))
            for index, name in enumerate(PARAMETERS)
        }
        spread = _reachable_cv(drawn["service_time_s"], objective.latency_s)
        drawn["service_cv"] = np.minimum(drawn["service_cv"], spread)
        drawn["rate_window_s"] = np.maximum(drawn["rate_window_s"], 2.5 * drawn["scrape_s"])
        return drawn


PARAMETERS: Final[tuple[str, ...]] = tuple(item.name for item in fields(SimulatorSettings))


def _fixed(value: float) -> Range:
    return Range(value, value, value)


def _reachable_cv(service_time_s: NDArray[np.float64], latency_s: float) -> NDArray[np.float64]:
    """The spread up to which 1 in 10,000 requests alone exceeds the limit (log-normal, 3.72 sd).

    The limit is (ln(L/S) + s²/2) / s = 3.72; its smaller root is s, and cv² = exp(s²) - 1.
    """
    margin = np.log(np.maximum(latency_s / service_time_s, 1.0 + 1e-9))
    root = 3.72 - np.sqrt(np.maximum(3.72**2 - 2.0 * margin, 0.0))
    cv: NDArray[np.float64] = np.sqrt(np.expm1(root**2))
    return cv


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """Where the real request traces lie."""

    folder: Path
    """`NIMBUSGUARD_TRACES`; without it `../shared/traces` beside the checkout."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> TraceSettings:
        """Read the environment, the process's own if none is given."""
        values = os.environ if environ is None else environ
        named = values.get("NIMBUSGUARD_TRACES")
        beside = Path(__file__).resolve().parents[3] / "shared" / "traces"
        return cls(folder=Path(named) if named else beside)
