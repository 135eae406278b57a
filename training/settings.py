"""Every number of the learner, with its unit, its effect and why it is the default."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nimbusguard.contract.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """The learner; the cluster it learns on has settings of its own."""

    epochs: int = 40
    """Rounds of fresh episodes, checkpoint and multiplier step; the environment knows them as
    `TRAINING_EPOCHS`. 40 take about five minutes of one core."""
    steps_per_epoch: int = 480
    """Decisions a lane in an epoch: 480 at 15 s are two hours, long enough to hold rises, falls and
    several stabilization windows."""
    lanes: int = 510
    """Clusters simulated side by side, a multiple of five; each epoch draws new ones."""
    hidden: tuple[int, ...] = (64, 64)
    """Width of the hidden layers."""
    derived_inputs: bool = False
    """Give the network the products and ratios of `dueling_network.DerivedInputs`. Inside the guard
    they are worth nothing, raw they do harm at the edges, and a served row pays four times as
    much."""
    dueling: bool = True
    """Split Q into value and advantage; off for ablation."""
    double: bool = True
    """The online network chooses the next action, the target prices it; off for ablation."""
    learning_rate: float = 5e-4
    """Adam step size at the start; it falls linearly to a tenth."""
    batch_size: int = 256
    """Samples an update; of a branch, states with all their actions."""
    updates_per_step: int = 2
    """Updates after each step of all lanes: each transition is used four times in the mean."""
    replay_steps: int = 2048
    """Time steps kept; times lanes is the replay size (one million by default, 140 MiB)."""
    branch_steps: int = 40
    """Steps of a branch, in which five lanes try the five actions from one state under common
    random numbers. 40 are ten minutes, by when most lanes of a group have met again: little of the
    difference is left to bootstrapping, which is what goes wrong. 0 learns from single
    transitions."""
    branch_curiosity: float = 0.5
    """Share of the branches after which a group goes on from a random action instead of its own."""
    branches_kept: int = 300
    """Branches of each group in the buffer: the policy that was followed must not be too old."""
    updates_per_branch: int = 24
    """Updates after each branch. A state's five returns are one draw of its future: used over and
    over they are learnt by heart, and the policy begins to turn round at every decision."""
    level_weight: float = 0.1
    """Weight of the level of Q beside the differences between actions: the level is traffic, the
    differences are what is chosen by."""
    n_step: int = 8
    """Steps summed before bootstrapping. A pod asked for now serves only after its start-up, one to
    eight decisions later: fewer steps and the delay must be learnt through bootstrapping alone."""
    discount: float = 0.96
    """Gamma a decision: a horizon of 25 decisions, six minutes; start-up, scrape and rate window
    fit into it three times, and after a branch a fifth of the value is left to bootstrapping."""
    target_rate: float = 0.005
    """Share of the online weights that moves into the target network after each update."""
    huber_delta: float = 10.0
    """TD error from which the loss grows linearly. Far above the usual 1: overloads are rare and
    dear, and a loss that caps them at the price of a normal step learns the median."""
    gradient_norm: float = 10.0
    """Gradients are scaled down to this norm."""
    greedy_lanes_ratio: float = 0.25
    """Share of lanes that never explore: they measure the violations of the policy itself."""
    epsilon: float = 0.3
    """Exploration rate of the most curious lane at the start."""
    epsilon_end: float = 0.05
    """The same at the end."""
    reward_scale: float = 0.03
    """Rewards are multiplied by this, so that Q-values stay near one and the
    Huber loss cuts only what is far out."""
    violation_budget: float = 0.005
    """Share of requests that may break the objective: the constraint of the dual ascent."""
    multiplier: float = 20.0
    """Price of violations at the start, in pod-seconds a pod-second of violating work. The tuned
    HPA's own frontier has this slope where it violates 0.5 %."""
    multiplier_rate: float = 0.1
    """Step of dual ascent on the logarithm of the multiplier, an epoch."""
    multiplier_ceiling: float = 3000.0
    """Highest multiplier."""
    multiplier_spread: float = 4.0
    """Exploring lanes and samples are priced at multipliers up to this factor around the current
    one, and the network is told which; 1 trains for one multiplier at a time."""
    warm_start_epochs: int = 2
    """Epochs in which the rule acts; 0 starts from random weights."""
    margin: float = 0.05
    """By how much an action other than the rule's must be worse during the warm start."""
    margin_weight: float = 0.3
    """Weight of the margin loss during the warm start."""
    margin_weight_end: float = 0.3
    """The same from twice as many epochs on, to the end, as in DQfD: the network leaves the rule
    only where the returns say clearly that it should. Without it five seeds cost 1 % to 5 % more
    than the rule at equal violations and turned round up to ten times as often."""

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "lanes", "batch_size", "n_step", "replay_steps"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("learning_rate", "multiplier", "reward_scale", "huber_delta"):
            _require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        for name in ("epsilon", "epsilon_end", "greedy_lanes_ratio", "discount", "target_rate"):
            _require(0 <= getattr(self, name) <= 1, name, "0 to 1", getattr(self, name))
        _require(0 < self.violation_budget < 1, "violation_budget", "0 to 1", self.violation_budget)
        _require(
            self.multiplier_spread >= 1, "multiplier_spread", "at least 1", self.multiplier_spread
        )
        _require(
            self.n_step <= self.steps_per_epoch,
            "n_step",
            f"at most steps_per_epoch ({self.steps_per_epoch})",
            self.n_step,
        )

    def with_changes(self, changes: Mapping[str, str]) -> TrainingSettings:
        """These settings with some given as text, as a command line has them.

        Raises:
            InvalidRequest: A name is no setting, or its value does not parse.
        """
        parsed: dict[str, Any] = {}
        fields = {field.name for field in dataclasses.fields(self)}
        for name, text in changes.items():
            if name not in fields:
                message = f"training setting: expected one of {sorted(fields)}, got {name!r}"
                raise InvalidRequest(message)
            parsed[name] = _parse(name, text, getattr(self, name))
        return dataclasses.replace(self, **parsed)

    def with_values(self, values: Mapping[str, Any]) -> TrainingSettings:
        """These settings with some given as JSON has them: `tune best`, or a pipeline's parameter.

        Raises:
            InvalidRequest: A name is no setting, or its value does not parse.
        """
        return self.with_changes({name: _spelled(value) for name, value in values.items()})


def _spelled(value: object) -> str:
    """A JSON value as a command line has it."""
    if isinstance(value, list | tuple):
        return ",".join(_spelled(part) for part in value)
    # JSON may have 3.0 for the 3 of `epochs`: Kubeflow's parameters know no whole numbers.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _parse(name: str, text: str, default: object) -> object:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, tuple):
            return tuple(int(part) for part in text.split(","))
        if isinstance(default, int):
            return int(text)
        return float(text)
    except (ValueError, KeyError) as error:
        message = f"training setting {name}: expected a value like {default!r}, got {text!r}"
        raise InvalidRequest(message) from error


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        message = f"training setting {name}: expected {rule}, got {value!r}"
        raise InvalidRequest(message)
