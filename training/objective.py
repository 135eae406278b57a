"""What a policy is asked to achieve: the objective that a version is trained and judged for."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Final

from nimbusguard.contract.actions import DEFAULT_MAX_REPLICAS, DEFAULT_MIN_REPLICAS
from nimbusguard.contract.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The service objective and the pods that it is stated for."""

    latency_s: float = 0.25
    """A request slower than this, or failed, violates the objective; seconds."""
    violation_budget_ratio: float = 0.005
    """The share of all requests that may violate it."""
    service_time_s: float = 0.05
    """Mean time that one request occupies one pod; 0.05 s is 20 requests/s and pod."""
    startup_s: float = 12.0
    """From the creation of a pod to its readiness; seconds."""
    busy_pods: float = 16.0
    """Traffic is scaled so that the 99.9th percentile of its rate keeps so many pods busy."""
    min_replicas: int = DEFAULT_MIN_REPLICAS
    """Lower bound of the replica count."""
    max_replicas: int = DEFAULT_MAX_REPLICAS
    """Upper bound of the replica count."""
    interval_s: int = 15
    """Whole seconds from one decision to the next."""

    def __post_init__(self) -> None:
        """Refuse values that no service could have.

        Raises:
            InvalidRequest: A field is out of range; the message names it.
        """
        for name in ("latency_s", "service_time_s", "busy_pods", "interval_s"):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= 0:
                message = f"objective {name}: expected a finite number above 0, got {value}"
                raise InvalidRequest(message)
        if not math.isfinite(self.startup_s) or self.startup_s < 0:
            message = f"objective startup_s: expected a number of at least 0, got {self.startup_s}"
            raise InvalidRequest(message)
        if not 0 < self.violation_budget_ratio < 1:
            message = (
                "objective violation_budget_ratio: expected a ratio between 0 and 1, "
                f"got {self.violation_budget_ratio}"
            )
            raise InvalidRequest(message)
        if not 1 <= self.min_replicas <= self.max_replicas:
            message = (
                "objective min_replicas: expected between 1 and max_replicas "
                f"({self.max_replicas}), got {self.min_replicas}"
            )
            raise InvalidRequest(message)

    @property
    def pod_rate(self) -> float:
        """Requests/s that one pod completes when it is never idle."""
        return 1.0 / self.service_time_s

    def to_dict(self) -> dict[str, float | int]:
        """The objective as it stands in a version's metadata."""
        return asdict(self)


DEFAULT_OBJECTIVE: Final = Objective()
"""At most 0.5 % of the requests slower than 250 ms or failed; pods of 20 requests/s."""
