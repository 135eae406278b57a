"""The Q-network: eleven normalized numbers in, five Q-values out, nothing remembered.

What lives here is the architecture alone. While it learns, the network is told the multiplier of
the violation budget as one more input; `freeze_conditions` folds a chosen multiplier into the
weights, so that what is served has no input before the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.features import FEATURES, INDEX, STATE_DIM

DERIVED_DIM: Final = 10
"""Number of inputs that `DerivedInputs` puts before the state."""


class DerivedInputs(nn.Module):
    """Products and ratios of the state that staffing depends on, computed inside the network.

    The state has the request rate over 1,000 and the pods over 50, so one pod more is a step of
    0.02, and "busy pods" is a product of two inputs. A small network spends its capacity on finding
    these. They are fixed functions of the eleven features: no input is added, none is hidden.

    Source: square-root staffing, Halfin and Whitt 1981: spare servers beyond the offered load
    count in units of its square root. Requests in service at a moment are Poisson around the busy
    pods of the last minute while nothing changes; how far off they are says what changed since.
    """

    def __init__(self) -> None:
        """Take places and bounds from the table: TorchScript knows plain attributes alone."""
        super().__init__()
        self.cpu_at = INDEX["cpu_utilization"]
        self.rate_at = INDEX["request_rate"]
        self.pods_at = INDEX["pod_count"]
        self.p95_at = INDEX["response_time_p95"]
        self.queue_at = INDEX["queue_depth"]
        self.fewest = FEATURES[self.pods_at].minimum
        self.pods_span = FEATURES[self.pods_at].maximum - self.fewest
        self.rate_span = FEATURES[self.rate_at].maximum
        self.queue_span = FEATURES[self.queue_at].maximum
        self.p95_span = FEATURES[self.p95_at].maximum

    def forward(self, state: Tensor) -> Tensor:
        """Inputs (B, DERIVED_DIM + F), each of order one, of normalized features (B, F)."""
        pods = state[:, self.pods_at] * self.pods_span + self.fewest  # (B,)
        busy = state[:, self.cpu_at] * pods
        rate = state[:, self.rate_at] * self.rate_span
        queue = state[:, self.queue_at] * self.queue_span
        delay_s = state[:, self.p95_at] * self.p95_span
        surprise = (queue - busy) / torch.sqrt(busy + 1.0)
        spare = (pods - busy) / torch.sqrt(torch.clamp(busy, min=0.25))
        derived = torch.stack(
            (
                torch.log(pods) / 3.0,
                1.0 / pods,
                busy / 10.0,
                torch.sqrt(busy) / 3.0,
                torch.clamp(spare, max=12.0) / 4.0,
                (pods - busy) / 5.0,
                torch.log1p(rate / pods) / 3.0,
                torch.log1p(queue / pods) / 2.0,
                torch.log1p(delay_s / 0.05) / 2.0,
                torch.clamp(surprise, min=-3.0, max=6.0) / 3.0,
            ),
            dim=1,
        )  # (B, DERIVED_DIM)
        return torch.cat((derived, state), dim=1)


class DuelingNetwork(nn.Module):
    """Q(s, a) = V(s) + A(s, a) - mean A(s, ·), over two hidden layers.

    Source: Wang et al. 2016, "Dueling Network Architectures for Deep Reinforcement Learning",
    eq. 9.
    """

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (128, 128),
        state_dim: int = STATE_DIM,
        action_dim: int = ACTION_DIM,
        derived: bool = True,
        dueling: bool = True,
        conditions: int = 0,
    ) -> None:
        """Build the layers; weights come from torch's current generator.

        Args:
            hidden: Width of each hidden layer.
            state_dim: Length of the state.
            action_dim: Number of actions.
            derived: Whether `DerivedInputs` is put before the state.
            dueling: Whether Q is split into value and advantage; off for ablation.
            conditions: Inputs beside the state that training alone knows.
        """
        super().__init__()
        self.state_dim = state_dim
        self.action_dim = action_dim
        self.hidden = tuple(hidden)
        self.derived = derived
        self.dueling = dueling
        self.conditions = conditions
        self.inputs = DerivedInputs()
        width = state_dim + (DERIVED_DIM if derived else 0) + conditions
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        self.body = nn.Sequential(*layers)
        self.value = nn.Linear(width, 1)
        self.advantage = nn.Linear(width, action_dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Q-values (B, A) of states (B, F), conditions appended as further columns if any."""
        parts = inputs
        if self.derived:
            state, told = inputs[:, : self.state_dim], inputs[:, self.state_dim :]
            parts = torch.cat((self.inputs(state), told), dim=1)
        features = self.body(parts)  # (B, H)
        advantage = self.advantage(features)  # (B, A)
        if not self.dueling:
            return cast("Tensor", advantage)  # (B, A)
        value = self.value(features)  # (B, 1)
        return cast("Tensor", value + advantage - advantage.mean(dim=1, keepdim=True))  # (B, A)


def freeze_conditions(network: DuelingNetwork, values: Sequence[float]) -> DuelingNetwork:
    """The same function with its conditions fixed: a network of the state alone.

    The condition columns of the first layer times their values are a constant, so they move into
    its bias; the result has no trace of a further input.

    Args:
        network: A network with `len(values)` conditions.
        values: What the conditions are fixed to.
    """
    if len(values) != network.conditions:
        message = f"conditions: expected {network.conditions} values, got {len(values)}"
        raise ValueError(message)
    frozen = DuelingNetwork(
        hidden=network.hidden,
        state_dim=network.state_dim,
        action_dim=network.action_dim,
        derived=network.derived,
        dueling=network.dueling,
    )
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if network.conditions:
        first = weights["body.0.weight"]
        fixed = torch.tensor(values, dtype=first.dtype)
        weights["body.0.bias"] = weights["body.0.bias"] + first[:, -network.conditions :] @ fixed
        weights["body.0.weight"] = first[:, : -network.conditions].clone()
    frozen.load_state_dict(weights)
    return frozen.eval()


def q_values_of(network: nn.Module, inputs: np.ndarray) -> np.ndarray:
    """Q-values (B, A) as float32 numpy of inputs (B, F + conditions), without gradients."""
    with torch.inference_mode():
        result: np.ndarray = network(torch.from_numpy(inputs)).numpy()
    return result
