"""The Deep Q-Network learner, in reading order: targets, loss, acting, learning, the loop.

Double (van Hasselt et al. 2016), dueling (Wang et al. 2016), n-step (Sutton 1988; Hessel et al.
2018) Q-learning with masked actions, under a violation budget whose multiplier is learnt by dual
ascent. Own code on torch and numpy; docs/training.md numbers every deviation from the papers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.policy.greedy import choose_allowed
from training import schedule
from training.branching import BranchBuffer, Branches, BranchingEnvironment, branch, leaders
from training.dueling_network import DuelingNetwork, q_values_of
from training.environment import Environment, Observation, Rule
from training.replay_buffer import Batch, ReplayBuffer, Transitions
from training.settings import TrainingSettings

MASKED = -1e9
"""Q-value of an action that is not allowed: below any that can be earned, and finite, so that no
sum turns into NaN."""


# 1. Targets and losses --------------------------------------------------------


def td_target(
    reward: Tensor, discount: Tensor, next_mask: Tensor, next_online: Tensor, next_target: Tensor
) -> Tensor:
    """The n-step double Q-learning target.

    y = R + discount · Q_target(s', argmax over allowed a of Q_online(s', a))

    Args:
        reward: Discounted n-step reward (B,).
        discount: gamma^steps, 0 where the episode terminated (B,). A truncated episode bootstraps.
        next_mask: Allowed actions in s' (B, A).
        next_online: Q-values of s' by the network that chooses (B, A).
        next_target: Q-values of s' by the network that prices (B, A).

    Returns:
        Targets (B,).

    Source: van Hasselt, Guez, Silver 2016, "Deep Reinforcement Learning with Double Q-learning",
    eq. 4.
    """
    chosen = next_online.masked_fill(~next_mask, MASKED).argmax(dim=1, keepdim=True)  # (B, 1)
    value = next_target.gather(1, chosen).squeeze(1)  # (B,)
    return reward + discount * value


def margin_loss(q_values: Tensor, mask: Tensor, demonstrated: Tensor, margin: float) -> Tensor:
    """How far the demonstrated action is from being best by `margin`, in the mean.

    Source: Hester et al. 2018, "Deep Q-learning from Demonstrations", eq. for J_E.
    """
    handicap = torch.full_like(q_values, margin)
    handicap.scatter_(1, demonstrated[:, None], 0.0)
    best = (q_values + handicap).masked_fill(~mask, MASKED).amax(dim=1)  # (B,)
    shown = q_values.gather(1, demonstrated[:, None]).squeeze(1)  # (B,)
    return (best - shown).mean()


def soft_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Move `rate` of the online weights into the target (Lillicrap et al. 2016, algorithm 1)."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.lerp_(new, rate)


# 2. The learner ---------------------------------------------------------------


class Losses(NamedTuple):
    """What one update measured."""

    td: float
    margin: float
    mean_q: float


class Learner:
    """The two networks, their optimizer and the multiplier."""

    def __init__(self, settings: TrainingSettings, state_dim: int, action_dim: int) -> None:
        """Draw the weights from torch's current generator."""
        self.settings = settings
        self.conditions = 1 if settings.multiplier_spread > 1 else 0
        self.multiplier = settings.multiplier
        self.online = self._network(state_dim, action_dim)
        self.target = self._network(state_dim, action_dim)
        self.target.load_state_dict(self.online.state_dict())
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=settings.learning_rate)

    def _network(self, state_dim: int, action_dim: int) -> DuelingNetwork:
        return DuelingNetwork(
            hidden=self.settings.hidden,
            state_dim=state_dim,
            action_dim=action_dim,
            derived=self.settings.derived_inputs,
            dueling=self.settings.dueling,
            conditions=self.conditions,
        )

    def inputs(
        self, state: NDArray[np.float32], multiplier: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Network inputs (B, F + conditions): the state, and the price of violations if told."""
        if not self.conditions:
            return state
        told = condition_of(multiplier).astype(np.float32)[:, None]  # (B, 1)
        return np.concatenate((state, told), axis=1)

    def q_values(
        self, state: NDArray[np.float32], multiplier: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Q-values (B, A) at a price of violations (B,)."""
        return q_values_of(self.online, self.inputs(state, multiplier))

    def update(
        self,
        batch: Batch,
        multiplier: NDArray[np.float64],
        *,
        demonstrated: NDArray[np.int64] | None = None,
        margin_weight: float = 0.0,
    ) -> Losses:
        """One gradient step on a batch, each sample priced at its multiplier (B,).

        `demonstrated` holds the rule's action in each state (B,) during the warm start.
        """
        settings = self.settings
        # Price the n-step sums.
        price = batch.cost + multiplier * batch.violation
        reward = torch.from_numpy((-self._scale(multiplier) * price).astype(np.float32))  # (B,)
        # Targets: the online network chooses, the target network prices.
        following = torch.from_numpy(self.inputs(batch.next_state, multiplier))
        with torch.no_grad():
            priced = self.target(following)  # (B, A)
            chooser = self.online(following) if settings.double else priced
            target = td_target(
                reward,
                torch.from_numpy(batch.discount),
                torch.from_numpy(batch.next_mask),
                chooser,
                priced,
            )  # (B,)
        # The Q-value of what was done, against its target.
        q_values = self.online(torch.from_numpy(self.inputs(batch.state, multiplier)))  # (B, A)
        taken = q_values.gather(1, torch.from_numpy(batch.action)[:, None]).squeeze(1)  # (B,)
        td_loss = nn.functional.huber_loss(taken, target, delta=settings.huber_delta)
        loss = td_loss
        # During the warm start the rule's action must also be the best by a margin.
        margin = torch.zeros(())
        if demonstrated is not None:
            shown, allowed = torch.from_numpy(demonstrated), torch.from_numpy(batch.mask)
            margin = margin_loss(q_values, allowed, shown, settings.margin)
            loss = td_loss + margin_weight * margin
        self._descend(loss)
        return Losses(td_loss.item(), margin.item(), taken.mean().item())

    def update_branches(
        self,
        batch: Branches,
        *,
        demonstrated: NDArray[np.int64] | None = None,
        margin_weight: float = 0.0,
    ) -> Losses:
        """One gradient step on all actions of some branched states.

        The same targets as `update`, for five actions at once. Their differences, free of what
        traffic did, are weighted above their common level.
        """
        settings = self.settings
        size, actions = batch.mask.shape
        multiplier = np.repeat(batch.multiplier, actions)
        # Price the n-step sums of each action.
        price = batch.cost + batch.multiplier[:, None] * batch.violation  # (B, A)
        scale = self._scale(batch.multiplier)[:, None]
        reward = torch.from_numpy((-scale * price).astype(np.float32)).flatten()  # (B A,)
        # Targets: the online network chooses, the target network prices.
        flat = batch.last_state.reshape(size * actions, -1)
        following = torch.from_numpy(self.inputs(flat, multiplier))
        discount = torch.full((size * actions,), settings.discount**settings.branch_steps)
        with torch.no_grad():
            priced = self.target(following)
            chooser = self.online(following) if settings.double else priced
            last_mask = torch.from_numpy(batch.last_mask.reshape(size * actions, actions))
            target = td_target(reward, discount, last_mask, chooser, priced)
            target = target.reshape(size, actions)  # (B, A)
        # Q-values of what was tried, against their targets: differences, then level.
        q_values = self.online(torch.from_numpy(self.inputs(batch.state, batch.multiplier)))
        allowed = torch.from_numpy(batch.mask)
        error = torch.where(allowed, q_values - target, 0.0)  # (B, A)
        level = error.sum(dim=1, keepdim=True) / allowed.sum(dim=1, keepdim=True)  # (B, 1)
        centred = torch.where(allowed, error - level, 0.0)  # (B, A)
        zero = torch.zeros(())
        delta = settings.huber_delta
        td_loss = nn.functional.huber_loss(centred, zero.expand_as(centred), delta=delta)
        of_level = nn.functional.huber_loss(level, zero.expand_as(level), delta=delta)
        margin = zero
        if demonstrated is not None:
            shown = torch.from_numpy(demonstrated)
            margin = margin_loss(q_values, allowed, shown, settings.margin)
        loss = td_loss + settings.level_weight * of_level + margin_weight * margin
        self._descend(loss)
        return Losses(td_loss.item(), margin.item(), q_values.mean().item())

    def _scale(self, multiplier: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reward scale at each price; where many are learnt at once, none may drown the others."""
        settings = self.settings
        relative = multiplier / settings.multiplier if self.conditions else np.zeros(1)
        scale: NDArray[np.float64] = settings.reward_scale / (1.0 + relative)
        return scale

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.online.parameters(), self.settings.gradient_norm)
        self.optimizer.step()
        soft_update(self.target, self.online, self.settings.target_rate)

    def set_learning_rate(self, value: float) -> None:
        """Adam's step size from now on."""
        for group in self.optimizer.param_groups:
            group["lr"] = value


def condition_of(multiplier: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the network is told of a multiplier: half its decimal logarithm, of order one."""
    told: NDArray[np.float64] = np.log10(multiplier) / 2.0
    return told


# 3. Acting --------------------------------------------------------------------


def explore(
    action: NDArray[np.int64],
    mask: NDArray[np.bool_],
    epsilon: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Replace actions (L,) by a uniformly drawn allowed one with probability epsilon (L,)."""
    drawn = np.where(mask, rng.random(mask.shape), -1.0).argmax(axis=1)  # (L,)
    curious = rng.random(action.shape) < epsilon
    return np.where(curious, drawn, action)


def lane_multipliers(settings: TrainingSettings, multiplier: float) -> NDArray[np.float64]:
    """The price of violations in each lane (L,).

    The current one in the lanes that measure it, spread evenly on the logarithm over the lanes that
    explore.
    """
    greedy = round(settings.lanes * settings.greedy_lanes_ratio)
    place = np.linspace(-1.0, 1.0, settings.lanes - greedy)
    # The curious lanes are ordered too; a fixed shuffle keeps curiosity and price apart.
    place = np.random.default_rng(0).permutation(place)
    exponent = np.concatenate((np.zeros(greedy), place))
    return bounded(settings, multiplier * settings.multiplier_spread**exponent)


def bounded(settings: TrainingSettings, multiplier: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multipliers not above their ceiling."""
    return np.minimum(multiplier, settings.multiplier_ceiling)


# 4. The loop ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """What one epoch did and measured; docs/training.md has the formula of each field."""

    epoch: int
    multiplier: float
    violation_ratio: float
    """Of the lanes that do not explore."""
    cost_per_step: float
    """Of the lanes that do not explore."""
    td_loss: float
    margin_loss: float
    mean_q: float
    learning_rate: float
    decisions: int


def learn(
    learner: Learner,
    environment: Environment,
    buffer: ReplayBuffer,
    *,
    seed: int,
    rule: Rule | None = None,
    first_epoch: int = 0,
) -> Iterator[EpochRecord]:
    """Learn epoch by epoch, from `first_epoch` to the last.

    All chance of an epoch comes from (seed, epoch), and its episodes start anew. So a run that is
    resumed at the start of an epoch, with the weights, the optimizer, the multiplier and the buffer
    it had there, goes on bit for bit as if it had never stopped.
    """
    for epoch in range(first_epoch, learner.settings.epochs):
        yield _run_epoch(learner, environment, buffer, epoch=epoch, seed=seed, rule=rule)


def _run_epoch(
    learner: Learner,
    environment: Environment,
    buffer: ReplayBuffer,
    *,
    epoch: int,
    seed: int,
    rule: Rule | None,
) -> EpochRecord:
    settings = learner.settings
    progress = epoch / max(settings.epochs - 1, 1)
    rng = np.random.default_rng((seed, epoch))
    warm = rule is not None and epoch < settings.warm_start_epochs
    weight = _margin_weight(settings, epoch) if rule is not None else 0.0
    rate = schedule.linear(settings.learning_rate, settings.learning_rate / 10.0, progress)
    learner.set_learning_rate(rate)
    epsilon = schedule.lane_epsilons(
        settings.lanes,
        settings.greedy_lanes_ratio,
        schedule.linear(settings.epsilon, settings.epsilon_end, progress),
    )
    prices = lane_multipliers(settings, learner.multiplier)
    greedy = epsilon == 0.0
    measured = _Measured()

    observed = environment.reset((seed, epoch))
    for _ in range(settings.steps_per_epoch):
        if warm and rule is not None:
            best = rule(observed.state, observed.mask)
        else:
            best = choose_allowed(learner.q_values(observed.state, prices), observed.mask)
        action = explore(best, observed.mask, epsilon, rng)
        step = environment.step(action)
        buffer.add(
            Transitions(
                state=observed.state,
                mask=observed.mask,
                action=action,
                cost=step.cost,
                violation=step.violation,
                next_state=step.after.state,
                next_mask=step.after.mask,
                terminated=step.terminated,
                truncated=step.truncated,
            )
        )
        measured.add_step(step.violating[greedy], step.requests[greedy], step.cost[greedy])
        observed = step.following
        if len(buffer) >= max(settings.batch_size, settings.lanes * settings.n_step):
            for _ in range(settings.updates_per_step):
                measured.add_losses(_update(learner, buffer, rng, rule, weight))
    return _close_epoch(learner, measured, epoch=epoch, rate=rate, adapt=not warm)


def _update(
    learner: Learner,
    buffer: ReplayBuffer,
    rng: np.random.Generator,
    rule: Rule | None,
    weight: float,
) -> Losses:
    settings = learner.settings
    batch = buffer.sample(
        settings.batch_size, rng, n_step=settings.n_step, discount=settings.discount
    )
    exponent = rng.uniform(-1.0, 1.0, settings.batch_size)
    prices = bounded(settings, learner.multiplier * settings.multiplier_spread**exponent)
    demonstrated = rule(batch.state, batch.mask) if rule is not None and weight > 0 else None
    return learner.update(batch, prices, demonstrated=demonstrated, margin_weight=weight)


def _margin_weight(settings: TrainingSettings, epoch: int) -> float:
    if settings.warm_start_epochs == 0:
        return 0.0
    fading = (epoch - settings.warm_start_epochs) / settings.warm_start_epochs
    return schedule.linear(settings.margin_weight, settings.margin_weight_end, fading)


def learn_by_branching(
    learner: Learner,
    environment: BranchingEnvironment,
    buffer: BranchBuffer,
    *,
    seed: int,
    rule: Rule | None = None,
    first_epoch: int = 0,
) -> Iterator[EpochRecord]:
    """`learn`, but from branches instead of single transitions; resumed as exactly."""
    for epoch in range(first_epoch, learner.settings.epochs):
        yield _branching_epoch(learner, environment, buffer, epoch=epoch, seed=seed, rule=rule)


def _branching_epoch(
    learner: Learner,
    environment: BranchingEnvironment,
    buffer: BranchBuffer,
    *,
    epoch: int,
    seed: int,
    rule: Rule | None,
) -> EpochRecord:
    settings = learner.settings
    progress = epoch / max(settings.epochs - 1, 1)
    rng = np.random.default_rng((seed, epoch))
    warm = rule is not None and epoch < settings.warm_start_epochs
    weight = _margin_weight(settings, epoch) if rule is not None else 0.0
    rate = schedule.linear(settings.learning_rate, settings.learning_rate / 10.0, progress)
    learner.set_learning_rate(rate)
    groups = settings.lanes // ACTION_DIM
    prices = group_multipliers(settings, learner.multiplier, groups)
    lane_prices = np.repeat(prices, ACTION_DIM)
    measuring = round(groups * settings.greedy_lanes_ratio)
    measured = _Measured()

    def act(observed: Observation) -> NDArray[np.int64]:
        if warm and rule is not None:
            return rule(observed.state, observed.mask)
        return choose_allowed(learner.q_values(observed.state, lane_prices), observed.mask)

    observed = environment.reset((seed, epoch))
    for _ in range(settings.steps_per_epoch // settings.branch_steps):
        tried = branch(
            environment,
            observed,
            act,
            prices,
            steps=settings.branch_steps,
            discount=settings.discount,
        )
        buffer.add(tried.branches)
        measured.add_step(
            tried.violating[:measuring], tried.requests[:measuring], tried.cost[:measuring]
        )
        curious = np.full(groups, settings.branch_curiosity)
        followed = explore(tried.greedy, tried.branches.mask, curious, rng)
        observed = environment.follow(leaders(followed))
        for _ in range(settings.updates_per_branch):
            batch = buffer.sample(settings.batch_size, rng)
            shown = rule(batch.state, batch.mask) if rule is not None and weight > 0 else None
            measured.add_losses(
                learner.update_branches(batch, demonstrated=shown, margin_weight=weight)
            )
    return _close_epoch(learner, measured, epoch=epoch, rate=rate, adapt=not warm)


def group_multipliers(
    settings: TrainingSettings, multiplier: float, groups: int
) -> NDArray[np.float64]:
    """The price of violations in each group (G,): the current one where it is measured."""
    measuring = round(groups * settings.greedy_lanes_ratio)
    place = np.linspace(-1.0, 1.0, groups - measuring)
    exponent = np.concatenate((np.zeros(measuring), place))
    return bounded(settings, multiplier * settings.multiplier_spread**exponent)


class _Measured:
    """Sums over an epoch."""

    def __init__(self) -> None:
        self.violating = 0.0
        self.requests = 0.0
        self.cost = 0.0
        self.lane_steps = 0
        self.losses: list[Losses] = []

    def add_step(
        self,
        violating: NDArray[np.float64],
        requests: NDArray[np.float64],
        cost: NDArray[np.floating[Any]],
    ) -> None:
        self.violating += float(violating.sum())
        self.requests += float(requests.sum())
        self.cost += float(cost.sum(dtype=np.float64))
        self.lane_steps += cost.size

    def add_losses(self, losses: Losses) -> None:
        self.losses.append(losses)


def _close_epoch(
    learner: Learner, measured: _Measured, *, epoch: int, rate: float, adapt: bool
) -> EpochRecord:
    settings = learner.settings
    used = learner.multiplier
    violation_ratio = measured.violating / max(measured.requests, 1.0)
    if adapt:
        learner.multiplier = schedule.ascend(
            used,
            violation_ratio,
            settings.violation_budget,
            rate=settings.multiplier_rate,
            ceiling=settings.multiplier_ceiling,
        )
    mean = np.mean(measured.losses, axis=0) if measured.losses else np.zeros(3)
    return EpochRecord(
        epoch=epoch,
        multiplier=used,
        violation_ratio=violation_ratio,
        cost_per_step=measured.cost / max(measured.lane_steps, 1),
        td_loss=float(mean[0]),
        margin_loss=float(mean[1]),
        mean_q=float(mean[2]),
        learning_rate=rate,
        decisions=(epoch + 1) * settings.steps_per_epoch * settings.lanes,
    )
