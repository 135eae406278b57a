"""The newest packaged version is what `make train` gives, and its record is what was judged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from model_store.packaged import packaged_store
from nimbusguard.policy.guard import GuardSettings
from training.lanes import LaneSettings
from training.objective import DEFAULT_OBJECTIVE
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
    """Learner, clusters, guard, rule and objective: `nimbusguard train` repeats the run."""
    config = STORE.show(MODEL, NEWEST).training["config"]

    assert config["settings"] == as_json(TrainingSettings())
    assert config["lanes"] == as_json(LaneSettings())
    assert config["warm_start"] == as_json(StaffingRule())
    assert config["objective"] == DEFAULT_OBJECTIVE.to_dict()


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
