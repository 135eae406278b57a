"""The whole way on one machine, offline: metrics in, a gated model out, a decision by it."""

from __future__ import annotations

import pytest

from tests.e2e.story import NAME, PODS, Told, tell
from tests.pipelines.runs import SMOKE_LIMITS
from training.simulator.settings import TraceSettings

pytestmark = [
    pytest.mark.service,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not TraceSettings.from_environ().folder.is_dir(), reason="the traces are not at hand"
    ),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One way for all tests."""
    return tell(tmp_path_factory.mktemp("e2e"))


def test_the_shipped_gate_refuses_what_was_hardly_trained(told: Told) -> None:
    """Status 3, nothing published, nothing on trial: the canary step was not run."""
    assert told.refused.returncode == 3
    assert "gate refused, nothing published" in told.refused.stdout
    assert told.versions_after_refusal == told.shipped


def test_a_gate_with_smoke_limits_lets_it_through_and_says_so(told: Told) -> None:
    """Published as the next version; its metadata hold the limits that were changed."""
    gate = told.store.show(NAME, told.version).evaluation["gate"]

    assert told.version == str(len(told.shipped) + 1)
    assert gate["passed"] is True
    assert gate["limits_changed"] == SMOKE_LIMITS
    assert any(each["limit"] == 100.0 for each in gate["conditions"])


def test_what_was_published_is_on_trial_beside_the_one_that_serves(told: Told) -> None:
    """The aliases of the store, as the canary step left them."""
    assert told.aliases_before == {"production": told.shipped[-1], "canary": told.version}


def test_the_canary_is_judged_by_what_prometheus_counted_and_promoted(told: Told) -> None:
    """`hold` while there is too little to go by, then `promote`; only then is it promoted."""
    last = told.verdicts[-1]

    assert {each["verdict"] for each in told.verdicts[:-1]} <= {"hold"}
    assert (last["verdict"], last["status"]) == ("promote", 0), last
    assert told.promoted is not None
    assert told.promoted.returncode == 0, told.promoted.stderr
    assert told.aliases_after == {"production": told.version, "canary": told.version}


def test_the_operator_scales_an_overloaded_workload_with_the_promoted_version(told: Told) -> None:
    """Replicas go up, and the decision names the version that the pipeline made."""
    assert told.replicas == told.status["targetReplicas"] > PODS
    assert told.status["source"] == "kserve"
    assert told.status["modelVersion"] == told.version


def test_the_batch_steps_left_their_figures_in_prometheus(told: Told) -> None:
    """Pushed by the steps, scraped, queried: both runs ended well, the refused one too."""
    assert (told.figures["runs"], told.figures["failed runs"]) == (2.0, 0.0)
    assert told.figures["training_s"] > 0.0
    assert 0.0 < told.figures["accuracy"] < 1.0
