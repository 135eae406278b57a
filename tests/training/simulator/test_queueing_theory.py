"""The event engine against what queueing theory knows exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.simulator.events import lognormal_sizes
from training.simulator.stations import Job, SharedQueue, SharingPods, Station

FOREVER = 1e12


def erlang_c(pods: int, load: float) -> float:
    """P(wait) of M/M/c, by the recursion of Erlang B."""
    blocked = 1.0
    for pod in range(1, pods + 1):
        blocked = load * blocked / (pod + load * blocked)
    return blocked / (1.0 - load / pods * (1.0 - blocked))


def play(
    station: Station, pods: int, load: float, sizes: NDArray[np.float64], *, seed: int
) -> float:
    """Poisson arrivals to pods of speed 1; the time until the last arrival."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(np.mean(sizes) / load, len(sizes)))
    station.set_pods(dict.fromkeys(range(pods), 1.0), 0.0)
    jobs = [
        Job(time, size, fresh=True, stubborn=False)
        for time, size in zip(times.tolist(), sizes.tolist(), strict=True)
    ]
    station.run(jobs, float(times[-1]))
    return float(times[-1])


def test_erlang_c_itself_gives_the_published_value() -> None:
    """C(10, 8) = 0.40918, as in every table."""
    assert erlang_c(10, 8.0) == pytest.approx(0.40918, abs=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("pods", "load"), [(10, 8.0), (1, 0.5), (3, 2.4), (16, 12.8)])
def test_a_shared_queue_waits_as_erlang_c_says(pods: int, load: float) -> None:
    """At 1e6 arrivals P(wait), mean wait and the 95th percentile of the wait are M/M/c's."""
    sizes = np.random.default_rng(7).exponential(size=1_000_000)
    station = SharedQueue(FOREVER, FOREVER)

    play(station, pods, load, sizes, seed=8)

    waits = np.array(station.outcome.waits)[10_000:]
    chance = erlang_c(pods, load)
    drain = pods - load
    assert np.mean(waits > 0.0) == pytest.approx(chance, rel=0.02)
    assert waits.mean() == pytest.approx(chance / drain, rel=0.05)
    assert np.quantile(waits, 0.95) == pytest.approx(math.log(chance / 0.05) / drain, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_one_sharing_pod_is_insensitive_to_the_spread_of_sizes(cv: float) -> None:
    """M/G/1 processor sharing: the mean response is S / (1 - rho) whatever the distribution."""
    sizes = lognormal_sizes(np.random.default_rng(3), 200_000, 1.0, cv)
    station = SharingPods(FOREVER, FOREVER)

    play(station, 1, 0.6, sizes, seed=4)

    responses = [response for response, _ in station.outcome.responses]
    assert np.mean(responses) == pytest.approx(1.0 / (1.0 - 0.6), rel=0.06)


@pytest.mark.parametrize("size", [0.25, 0.5, 1.0, 2.0])
def test_a_sharing_pod_slows_every_size_by_the_same_factor(size: float) -> None:
    """M/G/1-PS: a request of size x takes x / (1 - rho) in the mean."""
    rng = np.random.default_rng(11)
    sizes = rng.choice([0.25, 0.5, 1.0, 2.0], size=60_000)
    station = SharingPods(FOREVER, FOREVER)
    times = np.cumsum(rng.exponential(sizes.mean() / 0.5, len(sizes)))
    station.set_pods({0: 1.0}, 0.0)
    # The speed of a request's client is told by its arrival: sizes are looked up afterwards.
    jobs = [
        Job(time, length, fresh=length == size, stubborn=False)
        for time, length in zip(times.tolist(), sizes.tolist(), strict=True)
    ]

    station.run(jobs, float(times[-1]))

    chosen = [response for response, fresh in station.outcome.responses if fresh]
    assert np.mean(chosen) == pytest.approx(size / (1.0 - 0.5), rel=0.05)


@pytest.mark.parametrize("station", [SharedQueue(FOREVER, FOREVER), SharingPods(FOREVER, FOREVER)])
def test_littles_law_holds(station: Station) -> None:
    """Mean requests in flight = arrival rate x mean response, sampled against counted."""
    rng = np.random.default_rng(5)
    station.set_pods(dict.fromkeys(range(4), 1.0), 0.0)
    in_flight = []
    count = 0
    for second in range(4000):
        times = second + np.sort(rng.random(rng.poisson(3.0)))
        sizes = lognormal_sizes(rng, len(times), 1.0, 0.5)
        jobs = [
            Job(time, size, fresh=True, stubborn=False)
            for time, size in zip(times.tolist(), sizes.tolist(), strict=True)
        ]
        count += len(jobs)
        station.run(jobs, second + 1.0)
        in_flight.append(station.in_flight())

    mean_response = np.mean([response for response, _ in station.outcome.responses])

    assert np.mean(in_flight) == pytest.approx(count / 4000 * mean_response, rel=0.03)


def test_busy_time_is_the_work_that_was_done() -> None:
    """Pods of speed 1 are busy for exactly the sizes that they finish."""
    sizes = lognormal_sizes(np.random.default_rng(1), 2000, 1.0, 0.5)
    for station in (SharedQueue(FOREVER, FOREVER), SharingPods(FOREVER, FOREVER)):
        end = play(station, 3, 2.0, sizes, seed=2)
        station.run([], end + 1000.0)

        assert station.in_flight() == 0
        assert station.outcome.busy_s == pytest.approx(sizes.sum(), rel=1e-9)
