"""Parts of the steps by themselves: agreement with the oracle, limits, records, the registry."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_store.packaged import packaged_path
from model_store.store import open_store
from nimbusguard.contract.actions import CHANGES
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX
from tests.training.test_evaluate import judgement
from training.agreement import accuracy, action_of
from training.edges import Edges
from training.evaluate import Court, Judgement
from training.gate import GateSettings
from training.gating import Judged, hold_gate
from training.objective import DEFAULT_OBJECTIVE
from training.registry import register
from training.simulator.generators import generate
from training.steps import Budget, gate_settings, published_version


@pytest.fixture(scope="module")
def court() -> Court:
    """One generated hour."""
    traffic = generate("diurnal", 3600.0, np.random.default_rng(3))
    return Court(windows=[traffic], seeds=(1,), objective=DEFAULT_OBJECTIVE, decisions=120)


def test_a_change_of_replicas_is_the_action_that_makes_it() -> None:
    """All five."""
    assert np.array_equal(action_of(CHANGES), np.arange(5))


def test_accuracy_is_the_share_of_the_oracles_own_decisions(court: Court) -> None:
    """Always the same action agrees as often as the oracle takes it; the five shares make 1."""

    def always(action: int) -> float:
        def q_function(state: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.tile(np.eye(5, dtype=np.float32)[action], (len(state), 1))

        return accuracy(q_function, court)

    shares = [always(action) for action in range(5)]

    assert sum(shares) == pytest.approx(1.0)
    assert shares[2] == max(shares)


def test_accuracy_is_the_same_for_the_same_court(court: Court) -> None:
    """Nothing random is left."""

    def q_function(state: NDArray[np.float32]) -> NDArray[np.float32]:
        busy = state[:, INDEX["cpu_utilization"]]
        return np.stack([-busy, -busy, np.full_like(busy, 0.1), busy - 0.5, busy - 0.6], axis=1)

    assert 0.0 < accuracy(q_function, court) == accuracy(q_function, court) < 1.0


def test_what_was_judged_gives_the_same_verdict_in_another_process() -> None:
    """A record has everything that the gate looks at."""
    seeds = {1: judgement([8.8] * 8, [0.003] * 8, "one"), 2: judgement([9.1] * 8, [0.004] * 8)}
    judged = Judged(seeds=seeds, rival=judgement([10.0] * 8, [0.003] * 8), court_seeds=(11,))

    again = Judged.from_record(judged.to_record())

    verdicts = [
        hold_gate(GateSettings(), each, 1, parity=True, edges=Edges()) for each in (judged, again)
    ]
    assert verdicts[0] == verdicts[1]
    assert isinstance(again.seeds[2], Judgement)


@pytest.mark.parametrize("limits", [{"cost": 2.0}, {"seeds": "1"}, {"cost_ratio": True}])
def test_a_limit_that_the_gate_has_not_is_refused(limits: dict[str, Any]) -> None:
    """A misspelt limit must not be a gate with the shipped ones."""
    with pytest.raises(InvalidRequest, match="gate limits: expected numbers"):
        gate_settings(limits, DEFAULT_OBJECTIVE)


def test_limits_change_what_they_name_alone() -> None:
    """The budget is the objective's unless it is named."""
    found = gate_settings({"seeds": 1}, DEFAULT_OBJECTIVE)

    assert found == GateSettings(
        seeds=1, violation_budget_ratio=DEFAULT_OBJECTIVE.violation_budget_ratio
    )


def test_settings_come_as_json_and_as_kfp_has_it() -> None:
    """KFP knows no whole numbers, and lists for tuples."""
    learner = Budget(
        settings={"epochs": 3.0, "hidden": [32.0, 32.0], "discount": 0.9, "double": False}
    ).learner()

    assert (learner.epochs, learner.hidden) == (3, (32, 32))
    assert (learner.discount, learner.double) == (0.9, False)


def test_a_run_that_published_nothing_has_no_version() -> None:
    """The packaged versions are of no run."""
    assert published_version(open_store(packaged_path()), "a-run") is None


class FakeRegistry:
    """The client's two calls that we make."""

    def __init__(self, server: str, port: int, *, author: str, is_secure: bool) -> None:
        CALLS.append((server, port, author, is_secure))

    def register_model(self, name: str, uri: str, **fields: Any) -> None:
        CALLS.append((name, uri, fields))


CALLS: list[tuple[Any, ...]] = []


def test_a_version_is_registered_by_name_number_and_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the client takes it; the answer is the address that KServe takes."""
    module = ModuleType("model_registry")
    module.ModelRegistry = FakeRegistry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "model_registry", module)
    CALLS.clear()
    store = open_store(packaged_path())

    address = register(store, "2", "http://registry.kubeflow:8080")

    assert address == "model-registry://nimbusguard-dqn/2"
    assert CALLS[0] == ("http://registry.kubeflow", 8080, "nimbusguard", False)
    name, uri, fields = CALLS[1]
    assert (name, uri) == ("nimbusguard-dqn", store.version_uri("nimbusguard-dqn", "2"))
    assert fields["version"] == "2"
    assert fields["metadata"]["gate_passed"] is False
    assert fields["metadata"]["fingerprint"] == store.show("nimbusguard-dqn", "2").fingerprint


@pytest.mark.parametrize("address", ["registry:8080", "ftp://registry", "http://"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidRequest, match="model registry: expected"):
        register(open_store(packaged_path()), "2", address)


def test_without_its_client_the_registry_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra by name."""
    monkeypatch.setitem(sys.modules, "model_registry", None)

    with pytest.raises(InvalidRequest, match=r"nimbusguard\[registry\]"):
        register(open_store(packaged_path()), "2", "http://registry")
