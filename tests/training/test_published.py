"""The newest packaged version: trained as `make train` does, its record being what was judged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from model_store.packaged import packaged_path, packaged_store
from nimbusguard.policy.guard import GuardSettings
from training.edges import edges_of
from training.lanes import LaneSettings
from training.objective import DEFAULT_OBJECTIVE
from training.policies import version_q_function
from training.report import page
from training.settings import TrainingSettings
from training.warm_start import StaffingRule

MODEL = "nimbusguard-dqn"
STORE = packaged_store()
NEWEST = STORE.resolve(MODEL, "latest")
RESULTS = Path(__file__).parents[2] / "docs" / "results" / f"version-{NEWEST}"


def as_json(settings: Any) -> Any:
    """Settings as they stand in a file: tuples are lists there."""
    return orjson.loads(orjson.dumps(asdict(settings), default=list))


def test_it_was_trained_with_the_defaults() -> None:
    """Learner, clusters, guard, rule and objective: `make train` repeats it."""
    config = STORE.show(MODEL, NEWEST).training["config"]

    assert config["settings"] == as_json(TrainingSettings())
    assert config["lanes"] == as_json(LaneSettings())
    assert config["warm_start"] == as_json(StaffingRule())
    assert config["objective"] == DEFAULT_OBJECTIVE.to_dict()


def test_the_newest_version_passed_its_gate() -> None:
    """Every condition of twelve, none by force."""
    gate = STORE.show(MODEL, NEWEST).evaluation["gate"]

    assert gate["passed"] is True
    assert len(gate["conditions"]) == 12
    assert all(condition["passed"] for condition in gate["conditions"])


def test_it_was_judged_inside_the_guard_that_is_run() -> None:
    """The operator's defaults are the rails of the gate."""
    assert STORE.show(MODEL, NEWEST).evaluation["guard"] == as_json(GuardSettings())


def test_its_committed_record_is_that_of_its_metadata() -> None:
    """The gate's figures and the chosen seed, price and plan."""
    metadata = STORE.show(MODEL, NEWEST)
    gate = orjson.loads((RESULTS / "gate.json").read_bytes())["gate"]
    plan = orjson.loads((RESULTS / "plan.json").read_bytes())
    seed = metadata.training["seed"]
    calibration = orjson.loads((RESULTS / f"calibration-{seed}.json").read_bytes())

    assert gate.items() <= metadata.evaluation["gate"].items()
    assert plan == metadata.training["config"]
    assert calibration["multiplier"] == metadata.training["multiplier"]


def test_its_report_names_the_figures_of_the_gate() -> None:
    """The evaluation was another run of the same windows and seed, and found the same."""
    evaluation = orjson.loads((RESULTS / "evaluation.json").read_bytes())
    gate = orjson.loads((RESULTS / "gate.json").read_bytes())
    ours = {row["policy"]: row for row in evaluation["policies"]}[f"version {NEWEST}, guarded"]
    page = RESULTS.with_suffix(".md").read_text()

    assert ours["pod_hours"] == gate["candidate"]["pod_hours"]
    assert ours["mean_violation_ratio"] == gate["candidate"]["mean_violation_ratio"]
    assert f"{gate['gate']['cost_ratio']:.3f}" in page
    assert f"{gate['candidate']['mean_violation_ratio']:.3%}".replace("%", " %") in page


@pytest.mark.parametrize(
    ("version", "ratio"), [("1", 0.0), ("2", 0.0625), ("3", 0.140625), ("4", 0.0), ("5", 0.0)]
)
def test_what_each_version_adds_to_idle_workloads_is_written_down(
    version: str, ratio: float
) -> None:
    """Shares of the gate's grid; the guide names them, and none above 0 may serve by default."""
    q_function = version_q_function(packaged_path() / MODEL / version)
    guide = (RESULTS.parents[1] / "training.md").read_text()

    assert edges_of(q_function, DEFAULT_OBJECTIVE).idle_additions_ratio == ratio
    assert ratio == 0.0 or f"{ratio:.1%}".replace("%", " %") in guide
    assert ratio == 0.0 or STORE.resolve(MODEL, "production") != version


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_record_from_before_a_condition_was_asked_is_still_shown(version: str) -> None:
    """Both were held to nine conditions; the verdict is read as it was given."""
    gate = STORE.show(MODEL, version).evaluation["gate"]
    folder = RESULTS.parent / f"version-{version}"
    document = orjson.loads((folder / "evaluation.json").read_bytes())

    made = page({**document, "gate": gate}, {})

    assert len(gate["conditions"]) == 9
    assert made.count("export parity") == 1
    assert "additions to an idle workload" not in made
