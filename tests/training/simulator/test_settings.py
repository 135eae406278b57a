"""Parameters: drawn within their documented ranges, by the lane's seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nimbusguard.contract.errors import InvalidRequest
from training.objective import DEFAULT_OBJECTIVE, Objective
from training.simulator.draws import Purpose, hashed, triangular, uniform
from training.simulator.settings import PARAMETERS, Range, SimulatorSettings, TraceSettings

SEEDS = hashed(np.arange(4000, dtype=np.uint64), 0, Purpose.PARAMETER)


def test_every_parameter_is_drawn_from_its_range() -> None:
    """Two are bounded further: what the objective allows, and what rate() needs."""
    settings = SimulatorSettings()

    drawn = settings.draw(SEEDS, DEFAULT_OBJECTIVE)

    for name in PARAMETERS:
        low, high, *_ = getattr(settings, name)
        assert drawn[name].min() >= (low if name != "service_cv" else 0.0)
        assert drawn[name].max() <= high
        if low < high and name not in ("service_cv", "rate_window_s"):
            assert drawn[name].max() - drawn[name].min() > 0.95 * (high - low)


def test_training_covers_the_service_times_and_start_ups_that_are_asked_for() -> None:
    """Service times of 20 to 100 ms, start-ups of 5 to 120 s."""
    settings = SimulatorSettings()

    assert settings.service_time_s[:2] == (0.02, 0.1)
    assert settings.startup_s[:2] == (5.0, 120.0)


def test_the_nominal_cluster_is_the_objectives() -> None:
    """Nothing is drawn: every lane gets the same parameters, the objective's where it has them."""
    objective = Objective(service_time_s=0.08, startup_s=30.0)

    drawn = SimulatorSettings().nominal(objective).draw(SEEDS[:5], objective)

    assert np.unique(drawn["service_time_s"]).tolist() == [0.08]
    assert np.unique(drawn["startup_s"]).tolist() == [30.0]
    assert all(len(np.unique(values)) == 1 for values in drawn.values())


def test_no_drawn_service_is_too_slow_when_idle() -> None:
    """The spread of service times leaves at most 1 in 5,000 requests slow on an idle pod."""
    drawn = SimulatorSettings().draw(SEEDS, DEFAULT_OBJECTIVE)
    rng = np.random.default_rng(0)
    normal = np.sort(rng.standard_normal(200_000))

    variance = np.log1p(drawn["service_cv"] ** 2)
    limit = np.log(DEFAULT_OBJECTIVE.latency_s / drawn["service_time_s"]) + variance / 2.0
    slow = 1.0 - np.searchsorted(normal, limit / np.sqrt(variance)) / len(normal)

    assert slow.max() < 2e-4


def test_a_range_must_hold_its_nominal_value() -> None:
    """The message names the parameter."""
    with pytest.raises(InvalidRequest, match="timeout_s"):
        SimulatorSettings(timeout_s=Range(1.0, 2.0, 5.0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_s", 0.0),
        ("service_time_s", float("nan")),
        ("startup_s", -1.0),
        ("violation_budget_ratio", 1.0),
        ("min_replicas", 0),
        ("min_replicas", 51),
        ("interval_s", 0),
    ],
)
def test_an_objective_without_sense_is_refused(field: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(InvalidRequest, match=field.split("_")[0]):
        Objective(**{field: value})  # type: ignore[arg-type]


def test_an_objective_can_be_recorded() -> None:
    """Its dictionary makes the same objective again."""
    objective = Objective(latency_s=0.5, max_replicas=30)

    assert Objective(**objective.to_dict()) == objective  # type: ignore[arg-type]


def test_uniform_numbers_are_uniform_and_of_their_own() -> None:
    """Moments of the uniform distribution; counters and purposes are independent."""
    seeds = np.arange(50_000, dtype=np.uint64)

    numbers = uniform(seeds, 3, Purpose.STARTUP)

    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)
    assert numbers.var() == pytest.approx(1.0 / 12.0, rel=0.02)
    for other in (uniform(seeds, 4, Purpose.STARTUP), uniform(seeds, 3, Purpose.SPEED)):
        assert abs(np.corrcoef(numbers, other)[0, 1]) < 0.02


def test_triangular_noise_is_bounded_and_has_unit_variance() -> None:
    """No pod draws an absurd speed."""
    noise = triangular(np.arange(50_000, dtype=np.uint64), 1, Purpose.SPEED)

    assert np.abs(noise).max() < 2.45
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert noise.std() == pytest.approx(1.0, rel=0.02)


def test_the_traces_are_named_by_the_environment_or_lie_beside_the_checkout() -> None:
    """NIMBUSGUARD_TRACES wins."""
    named = TraceSettings.from_environ({"NIMBUSGUARD_TRACES": "somewhere"})

    assert named.folder == Path("somewhere")
    assert TraceSettings.from_environ({}).folder.parts[-2:] == ("shared", "traces")
