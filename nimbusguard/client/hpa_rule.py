"""The HPA rule as a step that the five actions have: the source that needs no network."""

from __future__ import annotations

from typing import Final

from nimbusguard.client.observation import Observation, stack
from nimbusguard.contract.actions import ScaleAction, allowed_actions
from nimbusguard.contract.features import INDEX
from nimbusguard.policy.hpa import desired_replicas

_CPU: Final = INDEX["cpu_utilization"]
# Enough for any step that the actions have, and far from where a product overflows.
_HIGHEST_RATIO: Final = 1e3


def hpa_action(seen: Observation, *, target: float, tolerance: float) -> ScaleAction | None:
    """The step towards what the HPA would ask for, or None without what the rule needs.

    Args:
        seen: The workload. A CPU utilization that is absent or negative is none.
        target: CPU utilization that the rule keeps, as ratio of the limit.
        tolerance: No step while utilization over target lies within 1 ± this ratio.

    Returns:
        The action that the bounds allow and whose result is nearest to the wish.
    """
    cpu = seen.values[_CPU]
    if not cpu >= 0.0 or seen.current_replicas < 1:  # NaN compares false
        return None
    ratio = min(cpu / target, _HIGHEST_RATIO)
    wish = desired_replicas(seen.current_replicas, ratio, tolerance=tolerance)
    allowed = allowed_actions(*stack([seen])[1:])[0]
    steps = [action for action in ScaleAction if allowed[action]]
    return min(
        steps, key=lambda action: (abs(seen.current_replicas + action.change - wish), -action)
    )
