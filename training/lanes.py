"""The cluster simulator as the learner sees it: states, masks, prices, and the guard in the loop.

Prices are in pods, averaged over a decision interval. From the pods paid for, the pods that the
arriving requests themselves keep busy are subtracted: traffic does not depend on what a policy
does, so the difference between policies stays as it is, and most of the noise goes.

Source: Mao et al. 2019, "Variance Reduction for Reinforcement Learning in Input-Driven
Environments": any function of the input process is a baseline without bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import CHANGES, ScaleAction, allowed_actions
from nimbusguard.contract.normalization import impute, normalize
from nimbusguard.policy import guard
from nimbusguard.policy.guard import Bounds, GuardSettings
from training.environment import LaneStep, Observation
from training.objective import Objective
from training.simulator.interface import Step
from training.simulator.lanes import ClusterLanes
from training.simulator.sampler import EpisodeSampler
from training.simulator.settings import Range, SimulatorSettings
from training.simulator.workload import Episode, Workload

ONLY_HOLD: Final = np.arange(len(ScaleAction)) == ScaleAction.NO_ACTION
ONLY_HOLD.setflags(write=False)

LEARNING_RANGES: Final = replace(
    SimulatorSettings(), startup_s=Range(5.0, 40.0, 12.0, logarithmic=True)
)
"""The simulator's ranges, start-up excepted: what a pod that takes two minutes to start needs in
reserve cannot be told from eleven numbers, and would be paid by every service that starts in ten
seconds. Another objective brings another range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """What the lanes of the learner are like."""

    generated_ratio: float = 0.05
    """Share of the exploring lanes with generated traffic. Its steps come more often than in any
    real trace; with a third of them a policy learns to insure itself against steps all day."""
    idle_ratio: float = 0.15
    """Share of the exploring lanes that are idle or nearly so. Real traffic at half the objective's
    scale and more never is, and what was never seen is answered by chance: with none of these lanes
    a network added pods to services without a request, with half as many two of eight did."""
    idle_busy_pods: tuple[float, float] = (0.0, 0.5)
    """Busy pods at load 1 in those lanes; in every other one there is no request at all."""
    idle_initial: tuple[int, int] = (1, 12)
    """Pods when an idle lane begins."""
    idle_crowding_decisions: float = 20.0
    """Mean decisions after which somebody gives an idle lane more pods. Without it such a lane has
    one pod for all but its first minutes, and what is rarely seen with two is learnt badly: a
    network kept the second pod of half the nearly idle states."""
    idle_crowd: tuple[int, int] = (2, 8)
    """Pods that it is given."""
    scarce_ratio: float = 0.05
    """Share of the exploring lanes that begin with far too few pods, as after a restart or a surge.
    The guard answers a doubling by itself, and real traffic at its start never is one: a network
    that had not seen it left saturated workloads alone."""
    scarce_initial: tuple[float, float] = (0.1, 0.6)
    """Pods over busy pods when such a lane begins."""
    scale: tuple[float, float] = (0.5, 1.5)
    """Busy pods at load 1 over the objective's in the exploring lanes; uniform in its logarithm."""
    initial: tuple[float, float] = (0.9, 2.0)
    """Pods over busy pods when an exploring lane begins."""
    guarded_ratio: float = 0.6
    """Share of the exploring lanes in which the guard stands between policy and cluster. The others
    are raw, so that the policy stays fit to be used without it; there an action always differs from
    another, in the guard only where the guard leaves it free, so the raw ones weigh more than they
    are. Lanes that measure are all guarded, unless none is: the budget is for what will run."""
    guard: GuardSettings = field(default_factory=GuardSettings)
    """The rails of the guarded lanes."""
    simulator: SimulatorSettings = LEARNING_RANGES
    """What each exploring cluster is drawn from."""
    change_cost: float = 1.5
    """Price of each replica added or removed, in pods for one decision interval: to remove a pod
    and add it again costs as much as to keep it for 45 s. 5.0 was tried: it cost 2 % more at equal
    violations and turned round no less."""


def see(raw: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What a served policy would see of raw features (B, F).

    Returns:
        The state (B, F), and where the service would refuse to decide (B,): the operator then
        holds.
    """
    imputed = impute(raw)
    refused: NDArray[np.bool_] = np.any(imputed.refused, axis=1)
    return normalize(np.where(imputed.refused, 0.0, imputed.values)).state, refused


def mask_of(
    current: NDArray[np.int64], bounds: Bounds, refused: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Actions that bounds allow (B, A); NO_ACTION alone where nothing could be decided."""
    allowed = allowed_actions(current, bounds.minimum, bounds.maximum)
    return np.where(refused[:, None], ONLY_HOLD, allowed)


def bounds_of(objective: Objective, lanes: int) -> Bounds:
    """The objective's bounds for each lane."""
    return Bounds(
        np.full(lanes, objective.min_replicas, dtype=np.int64),
        np.full(lanes, objective.max_replicas, dtype=np.int64),
    )


class ClusterEnvironment:
    """Simulated clusters as an `Environment`; each reset draws new episodes for all lanes.

    The first lanes measure: the very cluster that the objective names, under real traffic alone.
    What violates there decides the multiplier. The others are drawn from wide ranges, generated
    traffic included, some of which no policy could serve within the budget.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        objective: Objective,
        *,
        lanes: int,
        measuring: int,
        decisions: int,
        settings: LaneSettings,
        group: int = 1,
    ) -> None:
        """Describe the lanes; nothing is simulated before the first reset.

        Args:
            workloads: Traffic that may be learnt from.
            objective: Limit, bounds and interval.
            lanes: Number of clusters.
            measuring: How many of them measure.
            decisions: Length of an episode; all lanes end together, cut off.
            settings: Clusters, guard and prices.
            group: Neighbouring lanes that play one episode.
        """
        self._workloads = workloads
        self._objective = objective
        self._lanes = lanes
        self._measuring = measuring
        self._group = group
        self._decisions = decisions
        self._settings = settings
        self._bounds = bounds_of(objective, lanes)
        # Spread evenly, so that both kinds are found at every curiosity and price.
        exploring = (lanes - measuring) // group
        count = np.floor(np.arange(exploring + 1) * settings.guarded_ratio)
        measured = np.full(lanes // group - exploring, settings.guarded_ratio > 0)
        self._guarded = np.repeat(np.concatenate((measured, count[1:] > count[:-1])), group)

    @property
    def lanes(self) -> int:
        """Number of clusters."""
        return self._lanes

    def reset(self, seed: Sequence[int]) -> Observation:
        """Draw new episodes; equal seeds give equal episodes whatever happened before."""
        rng = np.random.default_rng(tuple(seed))
        objective, simulator = self._objective, self._settings.simulator
        measuring, exploring = np.split(np.arange(self._lanes), [self._measuring])
        self._clusters = ClusterLanes(simulator.nominal(objective), objective, self._lanes)
        self._clusters.reset(measuring, self._copies(lambda: self._measure(rng), len(measuring)))
        self._clusters.settings = simulator
        made = EpisodeSampler([], objective, decisions=self._decisions, rng=rng)
        drawn = self._copies(lambda: self._explore(made, rng), len(exploring))
        self._clusters.reset(exploring, drawn)
        idle = np.zeros(self._lanes, dtype=np.bool_)
        idle[exploring] = [each.scale <= self._settings.idle_busy_pods[1] for each in drawn]
        self._crowds = self._draw_crowds(idle, rng)
        self._memory = guard.start(self._lanes, 0.0)
        self._now_s, self._step = 0.0, 0
        return self._look()

    def step(self, action: NDArray[np.int64]) -> LaneStep:
        """Let the guard judge, scale, and let one interval pass."""
        current = self._clusters.current_replicas
        target = self._judge(action, current)
        crowd = self._crowds[self._step]
        outcome = self._clusters.step(np.where(crowd > 0, crowd, target))
        self._now_s += self._objective.interval_s
        self._step += 1
        after = self._look()
        return LaneStep(
            after=after,
            following=after,
            cost=self._cost(outcome, np.abs(target - current)),
            violation=self._pods(outcome.violations).astype(np.float32),
            violating=outcome.violations,
            requests=outcome.arrivals,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
        )

    def follow(self, leader: NDArray[np.int64]) -> Observation:
        """Put every lane into the state of its leader (L,), of the same group."""
        self._clusters.follow(leader)
        self._memory = guard.take(self._memory, leader)
        return self._look()

    def _copies(self, draw: Callable[[], Episode], lanes: int) -> list[Episode]:
        """Episodes for some lanes, one for each group."""
        drawn = [draw() for _ in range(lanes // self._group)]
        return [episode for episode in drawn for _ in range(self._group)]

    def _explore(self, made: EpisodeSampler, rng: np.random.Generator) -> Episode:
        """A stretch of real traffic at another scale; now and then generated traffic, or none."""
        settings = self._settings
        kind = rng.random()
        if kind < settings.generated_ratio:
            return made.draw()
        real = self._measure(rng)
        if kind < settings.generated_ratio + settings.idle_ratio:
            return self._idle(real, rng)
        scale = real.scale * float(np.exp(rng.uniform(*np.log(settings.scale))))
        busy = scale * float(real.workload.at(np.array([real.start_s + 0.5]))[0])
        if kind < settings.generated_ratio + settings.idle_ratio + settings.scarce_ratio:
            pods = int(busy * rng.uniform(*settings.scarce_initial))
        else:
            pods = int(np.ceil(busy * rng.uniform(*settings.initial))) + int(rng.integers(3))
        return replace(real, scale=scale, initial_replicas=max(pods, 1))

    def _idle(self, real: Episode, rng: np.random.Generator) -> Episode:
        """The same stretch with hardly a request, or none."""
        low, high = self._settings.idle_initial
        return replace(
            real,
            scale=float(rng.integers(2)) * float(rng.uniform(*self._settings.idle_busy_pods)),
            initial_replicas=int(rng.integers(low, high + 1)),
        )

    def _draw_crowds(self, idle: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """Pods that somebody gives idle lanes (T, L), as many in a group; 0 where nobody does."""
        settings = self._settings
        groups = (self._decisions, self._lanes // self._group)
        low, high = settings.idle_crowd
        pods = rng.integers(low, high + 1, groups)
        comes = rng.random(groups) * settings.idle_crowding_decisions < 1.0
        crowds: NDArray[np.int64] = np.repeat(np.where(comes, pods, 0), self._group, axis=1)
        return np.where(idle, crowds, 0)

    def _measure(self, rng: np.random.Generator) -> Episode:
        """A stretch of real traffic at the objective's own scale."""
        workload = self._workloads[int(rng.integers(len(self._workloads)))]
        length_s = self._decisions * self._objective.interval_s
        latest = max(int(workload.duration_s - length_s), 0)
        return Episode(
            workload=workload,
            seed=int(rng.integers(2**63)),
            scale=self._objective.busy_pods,
            start_s=int(rng.integers(latest + 1)),
            decisions=self._decisions,
        )

    def _judge(self, action: NDArray[np.int64], current: NDArray[np.int64]) -> NDArray[np.int64]:
        self._memory, verdict = guard.judge(
            self._settings.guard,
            self._memory,
            action,
            self._raw,
            current,
            self._bounds,
            now_s=self._now_s,
        )
        return np.where(self._guarded, verdict.target, current + CHANGES[action])

    def _look(self) -> Observation:
        self._raw = self._clusters.observe()
        state, refused = see(self._raw)
        return Observation(state, mask_of(self._clusters.current_replicas, self._bounds, refused))

    def _pods(self, requests: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pods that requests of one interval keep busy."""
        service_s = self._clusters.parameters["service_time_s"]
        busy: NDArray[np.float64] = requests * service_s / self._objective.interval_s
        return busy

    def _cost(self, outcome: Step, changed: NDArray[np.int64]) -> NDArray[np.float32]:
        paid = outcome.pod_seconds / self._objective.interval_s
        spare = paid - self._pods(outcome.arrivals)
        cost = spare + self._settings.change_cost * changed
        return cost.astype(np.float32)
