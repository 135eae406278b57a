"""Arrivals: Poisson, seeded, the same whatever else happens."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.simulator.worlds import constant, lanes_with, steady_episode
from training.simulator.arrivals import BLOCK_S, arrivals_of, poisson
from training.simulator.workload import Episode, Workload


@pytest.mark.parametrize("mean", [0.3, 4.0, 29.9, 30.0, 320.0])
def test_counts_have_the_moments_of_the_poisson_distribution(mean: float) -> None:
    """Mean and variance equal the mean, the skew is its root's inverse; counts are whole."""
    counts = poisson(np.random.default_rng(1), np.full(200_000, mean)).astype(np.float64)

    centred = counts - counts.mean()
    assert np.array_equal(counts, np.rint(counts))
    assert counts.min() >= 0.0
    assert counts.mean() == pytest.approx(mean, rel=0.01)
    assert counts.var() == pytest.approx(mean, rel=0.02)
    assert (centred**3).mean() / counts.std() ** 3 == pytest.approx(mean**-0.5, abs=0.03)


def test_small_and_large_means_may_be_mixed() -> None:
    """Each second gets its own mean, drawn either way."""
    means = np.tile([2.0, 200.0], 20_000)

    counts = poisson(np.random.default_rng(1), means)

    assert counts[::2].mean() == pytest.approx(2.0, rel=0.03)
    assert counts[1::2].mean() == pytest.approx(200.0, rel=0.01)


def test_equal_seeds_give_equal_arrivals_whatever_the_policy_does() -> None:
    """Common random numbers: two policies on one episode serve the same requests."""
    frugal = lanes_with([steady_episode(6.0, 8, seed=5)])
    lavish = lanes_with([steady_episode(6.0, 8, seed=5)])

    few = [frugal.step(np.array([2])).arrivals[0] for _ in range(150)]
    many = [lavish.step(np.array([40])).arrivals[0] for _ in range(150)]

    assert few == many


def test_other_seeds_give_other_arrivals() -> None:
    """The seed matters."""
    lanes = lanes_with([steady_episode(6.0, 8, seed=5), steady_episode(6.0, 8, seed=6)])

    came = np.array([lanes.step(np.array([8, 8])).arrivals for _ in range(10)])

    assert not np.array_equal(came[:, 0], came[:, 1])


def test_a_reset_in_the_middle_of_a_block_changes_nothing() -> None:
    """An episode begun late in a block of draws has the arrivals of one begun with it."""
    episode = steady_episode(3.0, 8, seed=9)
    lanes = lanes_with([episode])
    first = [lanes.step(np.array([8])).arrivals[0] for _ in range(BLOCK_S // 15 - 7)]

    lanes.reset(np.array([0]), [episode])
    again = [lanes.step(np.array([8])).arrivals[0] for _ in range(BLOCK_S // 15 - 7)]

    assert first == again


def test_the_oracle_looks_up_what_a_lane_will_see() -> None:
    """`arrivals_of` gives the very requests of the episode."""
    episode = Episode(workload=constant(1.0), seed=3, scale=4.0)
    lanes = lanes_with([episode])

    foreseen = arrivals_of(episode, 0.05, 15).sum(axis=1)
    seen = [lanes.step(np.array([8])).arrivals[0] for _ in range(len(foreseen))]

    assert foreseen.tolist() == seen


def test_the_rate_is_interpolated_between_the_centres_of_bins() -> None:
    """Two bins of load 0 and 2: the load rises linearly between their centres, flat outside."""
    workload = Workload(name="w", group="g", step_s=60.0, load=np.array([0.0, 2.0]))

    load = workload.at(np.array([0.0, 30.0, 60.0, 75.0, 90.0, 120.0]))

    assert load.tolist() == [0.0, 0.0, 1.0, 1.5, 2.0, 2.0]
    assert workload.duration_s == 120.0
