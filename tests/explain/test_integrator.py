"""Integrated gradients: complete, exact where the answer is known, the same in any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_store.packaged import packaged_path, packaged_store
from nimbusguard.contract.baseline import BASELINE, BASELINE_STATE
from nimbusguard.contract.features import NAMES
from predictor.explain import TOLERANCE, Explainer
from predictor.loader import LoadedModel, load_version
from tests.serving.in_process import STATE

VERSIONS = packaged_store().versions("nimbusguard-dqn")
"""Every packaged one, whatever is published next."""
BASE = torch.from_numpy(BASELINE_STATE.astype(np.float64))


def network(version: str) -> LoadedModel:
    return load_version(packaged_path() / "nimbusguard-dqn" / version)


def explainer_of(loaded: LoadedModel) -> Explainer:
    assert loaded.explainer is not None
    return loaded.explainer


def hard_states(rows: int, seed: int) -> NDArray[np.float32]:
    """Random states; in every third one features lie at their bounds, where square roots begin."""
    rng = np.random.default_rng(seed)
    states = rng.random((rows, len(NAMES)), dtype=np.float32)
    corners = rng.random(states.shape) < 0.3
    corners[np.arange(rows) % 3 != 0] = False
    states[corners] = np.round(states[corners])
    return states


def worst_gap(loaded: LoadedModel, states: NDArray[np.float32]) -> float:
    """The largest difference between a sum of attributions and the served Q-values' difference."""
    found = explainer_of(loaded).explain(states)
    moved = loaded.infer(states) - loaded.infer(BASELINE_STATE[None])
    gap = np.abs(found.attributions.astype(np.float64).sum(2) - moved)
    assert (found.completeness_error < TOLERANCE).all()
    return float(gap.max())


@pytest.mark.parametrize("version", VERSIONS)
def test_attributions_add_up_to_what_the_q_values_moved(version: str) -> None:
    """For every action, to 1e-3, against what the predictor serves."""
    assert worst_gap(network(version), hard_states(96, seed=1)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_they_add_up_for_thousands_of_states(version: str) -> None:
    """3,000 random states and bounds of every packaged version."""
    loaded = network(version)
    states = hard_states(3000, seed=2)

    gaps = [worst_gap(loaded, states[start : start + 100]) for start in range(0, 3000, 100)]

    assert max(gaps) < TOLERANCE


def test_a_linear_network_gives_weight_times_distance() -> None:
    """The one case whose answer nobody doubts."""
    weights = torch.from_numpy(np.random.default_rng(3).normal(size=(11, 5)))
    states = hard_states(4, seed=3)

    found = Explainer(lambda x: x @ weights).explain(states)

    wanted = weights.numpy().T[None] * (states - BASELINE_STATE)[:, None, :]
    np.testing.assert_allclose(found.attributions, wanted, rtol=1e-5, atol=1e-6)


def test_a_product_is_shared_between_its_factors() -> None:
    """The path integral of x·y gives each factor its distance times the other's mean."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        return (x[:, :1] * x[:, 1:2]).expand(-1, 5)

    state = np.array([STATE], dtype=np.float32)

    found = Explainer(forward).explain(state)

    low, high = BASELINE_STATE.astype(np.float64), state[0].astype(np.float64)
    mean = (low + high) / 2.0
    wanted = [(high[0] - low[0]) * mean[1], (high[1] - low[1]) * mean[0]]
    np.testing.assert_allclose(found.attributions[0, 2, :2], wanted, rtol=1e-5)
    assert not found.attributions[0, :, 2:].any()


def test_a_steep_kink_is_found() -> None:
    """A ramp that begins at 0.7 and is a thousand times as steep: what fixed steps get wrong."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        return 1000.0 * torch.relu(x[:, :1] - 0.7123) * torch.ones(5, dtype=x.dtype)

    found = Explainer(forward).explain(np.array([STATE], dtype=np.float32))

    wanted = 1000.0 * (np.float64(np.float32(STATE[0])) - 0.7123)
    np.testing.assert_allclose(found.attributions[0, :, 0], wanted, atol=TOLERANCE)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_feature_as_in_the_calm_workload_adds_nothing(version: str) -> None:
    """And the calm workload itself has no attributions at all."""
    state = hard_states(1, seed=4)
    state[0, 3] = BASELINE_STATE[3]

    found = explainer_of(network(version)).explain(np.concatenate([state, BASELINE_STATE[None]]))

    assert not found.attributions[0, :, 3].any()
    assert not found.attributions[1].any()
    assert found.completeness_error[1] < 1e-12


@pytest.mark.parametrize("version", VERSIONS)
def test_an_explanation_does_not_depend_on_its_neighbours(version: str) -> None:
    """Alone or among others: the same to a millionth of a Q-value's unit."""
    explainer, states = explainer_of(network(version)), hard_states(12, seed=5)

    together = explainer.explain(states).attributions
    alone = np.concatenate([explainer.explain(row[None]).attributions for row in states])

    np.testing.assert_allclose(together, alone, atol=1e-6, rtol=1e-6)


def test_the_baseline_is_a_workload_of_the_table() -> None:
    """Every feature by name and in order, within its bounds."""
    assert tuple(BASELINE) == NAMES
    assert ((BASELINE_STATE >= 0.0) & (BASELINE_STATE <= 1.0)).all()
