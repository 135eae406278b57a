"""A learned network in the form that is exported: one plain sequence, nothing left of training.

`training.export` writes what `folded` gives as TorchScript and ONNX. The two heads of a dueling
network are linear, so they fold into one; the derived inputs stay as the first module.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from training.dueling_network import DerivedInputs, DuelingNetwork
from training.network import Affine

Q_SCALE: Final = 1 / 16
"""Q-values are served in sixteenths of the learner's unit, of which nobody but the learner has
need: in overloads they reach -45 there, where the rounding of float32, which differs with the size
of a batch, is 4e-6, and servers promise 1e-6. A power of two changes no digit and no choice."""


class ServedNetwork(nn.Module):
    """A `DuelingNetwork` without conditions, as `training.export` takes networks."""

    def __init__(self, network: DuelingNetwork, *, scale: float = 1.0) -> None:
        """Keep a network whose conditions are frozen; what it gives is multiplied by `scale`."""
        super().__init__()
        if network.conditions:
            message = f"network: expected one without conditions, got {network.conditions}"
            raise ValueError(message)
        self.network = network.eval()
        self.scale = scale

    def forward(self, state: Tensor) -> Tensor:
        """Q-values (B, A) of states (B, F)."""
        q_values: Tensor = self.network(state) * self.scale
        return q_values

    @property
    def layers(self) -> tuple[int, ...]:
        """Widths from the state to the Q-values."""
        network = self.network
        return (network.state_dim, *network.hidden, network.action_dim)

    @torch.no_grad()
    def folded(self) -> nn.Sequential:
        """The same function as one sequence with weights of its own."""
        network = self.network
        modules: list[nn.Module] = [DerivedInputs()] if network.derived else []
        for layer in network.body:
            if isinstance(layer, nn.Linear):
                modules += [Affine(layer.weight, layer.bias), nn.ReLU()]
        advantage = network.advantage.weight.double()  # (A, H)
        bias = network.advantage.bias.double()  # (A,)
        if network.dueling:
            advantage = advantage - advantage.mean(dim=0) + network.value.weight.double()
            bias = bias - bias.mean() + network.value.bias.double()
        modules.append(Affine(advantage * self.scale, bias * self.scale))
        return nn.Sequential(*modules).eval()
