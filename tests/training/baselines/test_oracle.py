"""The clairvoyant oracle: optimal in its own model, and the floor of cost in the world."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.training.simulator.worlds import fixed
from training.baselines.hpa import CpuHpa
from training.baselines.oracle import Oracle, Pricing, plan, price
from training.objective import DEFAULT_OBJECTIVE, Objective
from training.simulator.generators import generate
from training.simulator.lanes import ClusterLanes
from training.simulator.rollout import rollout
from training.simulator.workload import Episode, Workload


def test_the_plan_is_the_cheapest_of_all_plans() -> None:
    """Against every sequence of actions over five intervals, bounds 1 to 6."""
    objective = Objective(max_replicas=6)
    late = np.random.default_rng(3).gamma(0.5, 40.0, (5, 6, 5)).astype(np.float32)
    pricing = Pricing(late, 3)

    def cost(changes: tuple[int, ...]) -> float:
        replicas, total = 3, 0.0
        for step, change in enumerate(changes):
            then = replicas + change
            if not 1 <= then <= 6:
                return np.inf
            total += 15.0 * then + 2.0 * max(-change, 0)
            total += 0.8 * late[step, replicas - 1, change + 2]
            replicas = then
        return total

    best = min(product(range(-2, 3), repeat=5), key=cost)
    chosen = plan(pricing, 0.8, objective, drain_s=2.0)

    assert np.diff(chosen, prepend=3).tolist() == list(best)


def test_pods_that_start_slowly_are_begun_earlier() -> None:
    """With a lead of two intervals the plan has at each time what it needs two later."""
    objective = Objective(max_replicas=10)
    late = np.zeros((12, 10, 5), dtype=np.float32)
    late[6:, :5, :] = 1e6
    pricing = Pricing(late, 1)

    early = plan(pricing, 1.0, objective, lead=2)
    on_time = plan(pricing, 1.0, objective)

    assert early[4] == on_time[6] >= 5
    assert np.all(np.abs(np.diff(early, prepend=1)) <= 2)


def test_more_pods_have_a_lower_price_of_violations() -> None:
    """In each interval the expected violations fall with the replicas before it."""
    episode = _episodes()[0]

    late = price(episode, 8, _nominal(), DEFAULT_OBJECTIVE).late

    assert late.shape == (episode.length(15), 50, 5)
    assert np.all(np.diff(late[:, :, 2], axis=1) <= 1e-3)


def test_prices_are_what_the_fast_engine_finds() -> None:
    """Summed over a steady episode of static pods, the expected violations are those that occur."""
    steady = Workload(name="s", group="s", step_s=60.0, load=np.ones(120))
    episode = Episode(workload=steady, seed=2, scale=8.8, initial_replicas=10)
    lanes = ClusterLanes(fixed(pod_speed_cv=0.0), DEFAULT_OBJECTIVE, 1)
    parameters = _nominal() | {"pod_speed_cv": 0.0}

    expected = price(episode, 10, parameters, DEFAULT_OBJECTIVE).late[:, 9, 2].sum()
    lanes.reset(np.array([0]), [episode])
    found = sum(lanes.step(np.array([10])).violations[0] for _ in range(episode.length(15)))

    assert expected == pytest.approx(found, rel=0.15)


def _nominal() -> dict[str, float]:
    drawn = fixed().draw(np.array([1], dtype=np.uint64), DEFAULT_OBJECTIVE)
    return {name: float(values[0]) for name, values in drawn.items()}


def _episodes() -> list[Episode]:
    rng = np.random.default_rng(8)
    return [
        Episode(workload=generate(shape, 3600.0, rng), seed=seed, scale=12.0)
        for seed, shape in enumerate(["ramps", "steps", "diurnal"])
    ]


@pytest.mark.slow
def test_the_oracle_costs_less_than_the_hpa_at_no_more_violations() -> None:
    """Whatever target the HPA has, some multiplier beats it in both."""
    episodes = _episodes()
    lanes = ClusterLanes(fixed(), DEFAULT_OBJECTIVE, len(episodes))
    lanes.reset(np.arange(len(episodes)), episodes)
    first = lanes.current_replicas
    priced = [
        price(episode, int(start), _nominal(), DEFAULT_OBJECTIVE)
        for episode, start in zip(episodes, first, strict=True)
    ]

    def played(multiplier: float) -> tuple[float, float]:
        plans = [plan(each, multiplier, DEFAULT_OBJECTIVE, drain_s=2.0) for each in priced]
        run = rollout(lanes, Oracle(plans, 15), episodes)
        return run.violation_ratio, run.pod_hours

    floor = [played(multiplier) for multiplier in (0.2, 0.5, 2.0, 10.0, 50.0, 500.0)]

    assert [cost for _, cost in floor] == sorted(cost for _, cost in floor)
    for target in (0.6, 0.7, 0.8):
        run = rollout(lanes, CpuHpa(target), episodes)
        assert any(ratio <= run.violation_ratio and cost < run.pod_hours for ratio, cost in floor)
