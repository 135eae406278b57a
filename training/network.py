"""The Q-network as an eager torch module: what training changes and export freezes.

A network is a multilayer perceptron from the state to one Q-value an action. With `dueling` the
last hidden layer is split into a value stream and an advantage stream (Wang et al. 2016, "Dueling
Network Architectures for Deep Reinforcement Learning", equation 9). Both heads are linear, so a
dueling network equals a plain one with a wider last hidden layer; `folded` gives that one, and only
plain networks are exported and served.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import torch
from torch import nn

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import STATE_DIM

MAX_HIDDEN_LAYERS: Final = 8
MAX_HIDDEN_WIDTH: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The shape of a network; input and output are given by the contract.

    Raises:
        InvalidRequest: No hidden layer, too many of them, or a width out of range.
    """

    hidden: tuple[int, ...] = (128, 128)
    """Units of each hidden layer. In a dueling network the last one is the width of each stream."""
    dueling: bool = False
    """Separate streams for the value of the state and the advantage of each action."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.hidden) <= MAX_HIDDEN_LAYERS:
            message = f"hidden: expected 1 to {MAX_HIDDEN_LAYERS} layers, got {len(self.hidden)}"
            raise InvalidRequest(message)
        for width in self.hidden:
            if not 1 <= width <= MAX_HIDDEN_WIDTH:
                message = f"hidden: expected widths of 1 to {MAX_HIDDEN_WIDTH}, got {width}"
                raise InvalidRequest(message)

    @property
    def layers(self) -> tuple[int, ...]:
        """Widths from the state to the Q-values of the network as served, streams side by side."""
        last = self.hidden[-1] * (2 if self.dueling else 1)
        return (STATE_DIM, *self.hidden[:-1], last, ACTION_DIM)


class Exportable(Protocol):
    """A network that knows its own form for export."""

    def folded(self) -> nn.Sequential:
        """One sequence with the same function and weights of its own."""
        ...

    def __call__(self, state: torch.Tensor) -> torch.Tensor:
        """Q-values (B, A) of states (B, F)."""
        ...


class Affine(nn.Module):
    """One layer of a network as it is exported: fixed weights (O, I) and bias (O,).

    `nn.Linear` would do, but its archive lists two constants in the order of a hash, so that equal
    weights gave two files.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Keep float32 copies."""
        super().__init__()
        self.weight = nn.Parameter(weight.detach().float().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().float().clone(), requires_grad=False)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Outputs (B, O) of inputs (B, I)."""
        return nn.functional.linear(activation, self.weight, self.bias)


class QNetwork(nn.Module):
    """State (B, F) float32 in [0, 1] to Q-values (B, A) float32."""

    def __init__(self, config: NetworkConfig, generator: torch.Generator) -> None:
        """Draw fresh weights from `generator`; the global generator of torch is left alone."""
        super().__init__()
        self.config = config
        widths = config.layers
        self.hidden = nn.ModuleList(_linear(*pair, generator) for pair in pairwise(widths[:-1]))
        if config.dueling:
            stream = config.hidden[-1]
            self.value = _linear(stream, 1, generator)
            self.advantage = _linear(stream, ACTION_DIM, generator)
        else:
            self.head = _linear(widths[-2], ACTION_DIM, generator)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Q-values (B, A) of states (B, F)."""
        activation = state  # (B, F)
        for layer in self.hidden:
            activation = torch.relu(layer(activation))  # (B, H)
        if not self.config.dueling:
            q_values: torch.Tensor = self.head(activation)  # (B, A)
            return q_values
        of_value, of_advantage = activation.chunk(2, dim=1)  # (B, H/2) each
        advantage: torch.Tensor = self.advantage(of_advantage)  # (B, A)
        value: torch.Tensor = self.value(of_value)  # (B, 1)
        return value + advantage - advantage.mean(dim=1, keepdim=True)  # (B, A)

    @torch.no_grad()
    def folded(self) -> nn.Sequential:
        """A plain network with the same function and weights of its own, ready to be exported.

        The heads of a dueling network are folded in float64: Q = V + A - mean(A) is linear in the
        streams, so one matrix (A, H) does what two heads and a mean did.
        """
        modules: list[nn.Module] = []
        for layer in self._hidden_layers():
            modules += [Affine(layer.weight, layer.bias), nn.ReLU()]
        if self.config.dueling:
            modules.append(Affine(*_fold_heads(self.value, self.advantage)))
        else:
            modules.append(Affine(self.head.weight, self.head.bias))
        return nn.Sequential(*modules).eval()

    def _hidden_layers(self) -> list[nn.Linear]:
        return [layer for layer in self.hidden if isinstance(layer, nn.Linear)]


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer as `nn.Linear` would start it, but drawn from `generator`.

    Source: torch, `nn.Linear.reset_parameters`: weights and bias uniform within ± 1/sqrt(inputs).
    """
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    bound = 1.0 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def _fold_heads(value: nn.Linear, advantage: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """One head, weight (A, 2S) and bias (A,), that acts on both streams side by side."""
    of_advantage = advantage.weight.double()  # (A, S)
    of_advantage = of_advantage - of_advantage.mean(dim=0, keepdim=True)
    of_value = value.weight.double().expand(of_advantage.shape[0], -1)  # (A, S)
    bias = advantage.bias.double()  # (A,)
    bias = value.bias.double() + bias - bias.mean()
    return torch.cat((of_value, of_advantage), dim=1), bias
