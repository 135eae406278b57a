"""What each step of the pipeline does, as functions of folders; `training.pipeline` wires them.

A step reads the folders of the steps before it and fills its own. It can be killed at any moment
and be run again: collection and training go on where they were, publishing finds what it published.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from queue import Queue
from typing import Any, Final

import fsspec
import orjson

from model_store.store import ModelStore
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.policy.guard import GuardSettings
from training.agreement import accuracy
from training.candidate import MODEL_NAME, candidate_seed, export_seed, publish, write_files
from training.dataset import write_document
from training.dqn import EpochRecord
from training.edges import edges_of
from training.evaluate import Court
from training.gate import GateSettings
from training.gating import Judged, hold_gate, judge_run, record_of
from training.lanes import LaneSettings
from training.lineup import FAMILIES
from training.measured import ARRIVALS_FILE
from training.objective import Objective
from training.policies import version_q_function
from training.prepare import REPORT_FILE, Rule, prepare
from training.report import page
from training.seeds import Plan, describe, name_candidate, run_seed, seed_directory
from training.settings import TrainingSettings
from training.showing import frontier_plot
from training.traces import PARTS, Use, windows
from training.verdict import document_of

JUDGED_FILE: Final = "judged.json"
EVALUATION_FILE: Final = "evaluation.json"
GATE_FILE: Final = "gate.json"
_COURT_SEED: Final = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much a run spends; the defaults are those of `make train evaluate`."""

    settings: Mapping[str, Any]
    """Changes of `TrainingSettings`, as `tune best` writes them."""
    calibration_decisions: int = 0
    """Cuts each calibration window; 0 plays it to its end."""
    evaluation_decisions: int = 0
    """Cuts each validation window; 0 plays it to its end."""

    def learner(self) -> TrainingSettings:
        """The learner's settings."""
        return TrainingSettings().with_values(self.settings)


def prepare_data(data: Path, out: Path, *, traces: str, rule: str) -> dict[str, Any]:
    """Apply the rule for measured data, and lay the shipped traces beside it.

    Args:
        data: The collected data set.
        out: Receives `arrivals.json`, `report.json` and `traces/`.
        traces: Folder or address (`s3://…`) of the traces.
        rule: A value of `Rule`.
    """
    known = [each.value for each in Rule]
    if rule not in known:
        message = f"data_rule: expected one of {known}, got {rule!r}"
        raise InvalidRequest(message)
    report = prepare(data, out, Rule(rule))
    filesystem, place = fsspec.core.url_to_fs(traces.rstrip("/"))
    (out / "traces").mkdir(parents=True, exist_ok=True)
    for name in sorted({part.file for part in PARTS}):
        filesystem.get_file(f"{place}/{name}", str(out / "traces" / name))
    return report


def train_one(prepared: Path, out: Path, seed: int, budget: Budget, *, work: Path) -> float:
    """Train and calibrate one seed; returns the seconds that it took in this process.

    Args:
        prepared: What `prepare_data` left.
        out: Receives `plan.json` and the seed's folder.
        seed: The seed.
        budget: How much to spend.
        work: Where checkpoints are kept; a killed run goes on from them.
    """
    started = time.perf_counter()
    plan = _plan(prepared, work, [seed], budget)
    records: Queue[tuple[int, EpochRecord]] = Queue()
    run_seed(plan, seed, records)
    own = seed_directory(work, seed)
    shutil.copytree(
        own,
        seed_directory(out, seed),
        ignore=shutil.ignore_patterns("checkpoint.npz", "tensorboard"),
        dirs_exist_ok=True,
    )
    write_document(out / "plan.json", _json(describe(plan)))
    return time.perf_counter() - started


def evaluate_run(
    prepared: Path, seeds: Mapping[int, Path], out: Path, budget: Budget, families: Sequence[str]
) -> dict[str, Any]:
    """Bring the seeds together, name and export the candidate, judge all beside the baselines.

    Returns:
        The candidate's `seed`, `mean_violation_ratio`, `pod_hours`, `cost_ratio` and `accuracy`.
    """
    plan = _plan(prepared, out, sorted(seeds), budget)
    for seed, folder in seeds.items():
        own = seed_directory(out, seed)
        shutil.copytree(seed_directory(folder, seed), own, dirs_exist_ok=True)
    chosen = name_candidate(out, plan.seeds, plan.objective)
    exported = export_seed(out, chosen)
    write_files(exported, out / "candidate")
    described = _json(describe(plan))
    described["measured"] = orjson.loads((prepared / REPORT_FILE).read_bytes())
    write_document(out / "plan.json", described)
    court = _court(prepared, plan.objective, budget)
    judged = judge_run(out, described, court)
    write_document(out / JUDGED_FILE, judged.to_record())
    agreement = accuracy(version_q_function(out / "candidate"), court)
    figures = _show(out, court, judged, chosen, families)
    return {"seed": chosen, "accuracy": agreement, **figures}


def judge_gate(run: Path, out: Path, limits: Mapping[str, Any]) -> bool:
    """Hold the candidate to the gate; write `gate.json`; whether it passed.

    Args:
        run: What `evaluate_run` left.
        out: Receives the verdict.
        limits: Changes of `GateSettings`. Not empty for a smoke run alone; what was changed stands
            in the verdict, and so in the metadata of every version that it lets through.
    """
    plan = orjson.loads((run / "plan.json").read_bytes())
    judged = Judged.from_record(orjson.loads((run / JUDGED_FILE).read_bytes()))
    objective = Objective(**plan["objective"])
    chosen = candidate_seed(run)
    exported = export_seed(run, chosen)
    verdict = hold_gate(
        gate_settings(limits, objective),
        judged,
        chosen,
        parity=exported.parity.passed,
        edges=edges_of(exported.q_function, objective),
    )
    record = record_of(verdict, judged, chosen, plan)
    record["gate"]["limits_changed"] = dict(limits)
    write_document(out / GATE_FILE, record)
    return verdict.passed


def gate_settings(limits: Mapping[str, Any], objective: Objective) -> GateSettings:
    """The gate's limits with some of them changed.

    Raises:
        InvalidRequest: A name is no limit, or a value no number.
    """
    known = {field.name for field in fields(GateSettings)}
    for name, value in limits.items():
        if name not in known or isinstance(value, bool) or not isinstance(value, int | float):
            message = (
                f"gate limits: expected numbers for some of {sorted(known)}, got {name}={value!r}"
            )
            raise InvalidRequest(message)
    shipped = GateSettings(violation_budget_ratio=objective.violation_budget_ratio)
    return replace(shipped, **limits)


def publish_run(run: Path, verdict: Path, store: ModelStore, *, run_id: str, now: datetime) -> str:
    """Publish the candidate once, whatever was killed in between; returns the version."""
    known = published_version(store, run_id)
    if known is not None:
        return known
    exported = export_seed(run, candidate_seed(run))
    plan = orjson.loads((run / "plan.json").read_bytes())
    evaluation = orjson.loads((verdict / GATE_FILE).read_bytes())
    metadata = publish(
        store,
        exported,
        plan={**plan, "pipeline_run": run_id},
        evaluation=evaluation,
        now=now,
        force_reason=None,
    )
    return metadata.version


def published_version(store: ModelStore, run_id: str) -> str | None:
    """The version that a run has published, if any."""
    for version in reversed(store.versions(MODEL_NAME)):
        config = store.show(MODEL_NAME, version).training.get("config", {})
        if isinstance(config, Mapping) and config.get("pipeline_run") == run_id:
            return version
    return None


def _plan(prepared: Path, directory: Path, seeds: Sequence[int], budget: Budget) -> Plan:
    return Plan(
        seeds=tuple(seeds),
        directory=directory,
        traces=prepared / "traces",
        settings=budget.learner(),
        lanes=LaneSettings(guard=GuardSettings()),
        objective=Objective(),
        resume=True,
        calibration_decisions=budget.calibration_decisions or None,
        measured=prepared / ARRIVALS_FILE,
    )


def _court(prepared: Path, objective: Objective, budget: Budget) -> Court:
    return Court(
        windows=windows(Use.VALIDATE, prepared / "traces"),
        seeds=(_COURT_SEED,),
        objective=objective,
        decisions=budget.evaluation_decisions or None,
    )


def _show(
    out: Path, court: Court, judged: Judged, chosen: int, families: Sequence[str]
) -> dict[str, Any]:
    """Write `evaluation.json` and `report.html`; the candidate's figures."""
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or "hpa" not in families:
        message = f"families: expected hpa and others of {sorted(FAMILIES)}, got {list(families)}"
        raise InvalidRequest(message)
    played = {name: FAMILIES[name].judge(court) for name in families}
    candidate = judged.seeds[chosen]
    document = document_of("Training pipeline", court, "fast", [candidate], played, [])
    write_document(out / EVALUATION_FILE, _json(document))
    plots = {
        "Cost against violations": [
            frontier_plot({**played, "candidate": [candidate]}, court.objective)
        ]
    }
    (out / "report.html").write_text(page(document, plots))
    return {
        "mean_violation_ratio": candidate.mean_violation_ratio,
        "pod_hours": candidate.total_pod_hours,
        "cost_ratio": candidate.total_pod_hours / judged.rival.total_pod_hours,
    }


def _json(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as JSON has it: lists for tuples, numbers for numpy's."""
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY, default=list)
    plain: dict[str, Any] = orjson.loads(text)
    return plain
