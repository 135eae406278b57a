"""The search on one machine: processes that succeed, fail, lag behind, are killed and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from nimbusguard.cli import main
from nimbusguard.commands.train import config_of
from nimbusguard.contract.errors import InvalidRequest
from tests.live.processes import ROOT, wait_until
from tests.pipelines.gateway import pushgateway
from tests.pipelines.runs import COMMAND, environment
from training.katib import Experiment, experiment_of
from training.settings import TrainingSettings
from training.simulator.settings import TraceSettings
from training.telemetry import EXPERIMENTS
from training.tuning import Search, compare, run_search

TRIAL = """
import argparse, pathlib, sys, time
parser = argparse.ArgumentParser()
for name in ("learning_rate", "discount", "exploration"):
    parser.add_argument("--" + name, type=float)
for name in ("batch_size", "hidden_width", "n_step"):
    parser.add_argument("--" + name, type=int)
parser.add_argument("--judge"), parser.add_argument("--how", default="")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
print("epoch 1: loss=nan", flush=True)
if args.how == "crash" and args.learning_rate != 0.0005:
    sys.exit("diverged")
if args.how == "silent":
    sys.exit(0)
if args.how == "lag" and args.learning_rate != 0.0005:
    for _ in range(8):
        print("cost_at_budget=99", flush=True)
    time.sleep(60)
if args.how == "hang":
    time.sleep(60)
for _ in range(8):
    print("cost_at_budget=2", flush=True)
if args.how == "luck" and args.learning_rate != 0.0005:
    print(f"cost_at_budget={0.5 if args.seed < 2 else 9}")
    sys.exit(0)
print(f"cost_at_budget={1 + abs(args.learning_rate - 0.001):.6g} violation_ratio=0.004")
"""


def experiment(tmp_path: Path, **changes: Any) -> Experiment:
    """The shipped Experiment with another program in its container, and a few trials."""
    script = tmp_path / "trial.py"
    script.write_text(TRIAL)
    document = yaml.safe_load((ROOT / "manifests/katib/experiment.yaml").read_text())
    spec = document["spec"]
    # Which trial the median would stop depends on which of two ends first: only one test wants it.
    small = {"maxTrialCount": 4, "parallelTrialCount": 2, "earlyStopping": None}
    spec |= small | changes
    container = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["command"][1:3] = [str(script)]
    return experiment_of(document)


def searched(tmp_path: Path, *extra: str, **changes: Any) -> dict[str, Any]:
    search = Search(
        experiment=experiment(tmp_path, **changes), folder=tmp_path / "search", extra=extra
    )
    return run_search(search, lambda _: None)


def states(tmp_path: Path) -> list[str]:
    report = json.loads((tmp_path / "search" / "report.json").read_text())
    return [trial["state"] for trial in report["trials"]]


def test_a_search_tries_the_default_first_and_reports_the_best(tmp_path: Path) -> None:
    """Four trials, the best of them by the last figure that it printed."""
    report = searched(tmp_path)
    costs = [trial["cost_at_budget"] for trial in report["trials"]]

    assert states(tmp_path) == ["succeeded"] * 4
    assert report["trials"][0]["parameters"]["learning_rate"] == "0.0005"
    assert report["best"]["cost_at_budget"] == min(costs) < 2.0
    assert report["best"]["settings"]["hidden"][0] in {32, 64, 128}


def test_a_trial_that_crashes_is_reported_failed_and_the_others_go_on(tmp_path: Path) -> None:
    """Within the allowance of the Experiment; the default alone succeeds here."""
    report = searched(tmp_path, "--how=crash")

    assert states(tmp_path) == ["succeeded", "failed", "failed", "failed"]
    assert report["trials"][1]["reason"] == "exit status 1"
    assert report["best"]["trial"] == 0


def test_more_failed_trials_than_allowed_end_the_search(tmp_path: Path) -> None:
    """Trials that report nothing have failed too, whatever their exit status."""
    with pytest.raises(InvalidRequest, match="expected at most 1 failed trials"):
        searched(tmp_path, "--how=silent", maxFailedTrialCount=1, parallelTrialCount=1)

    assert states(tmp_path) == ["failed", "failed"]


def test_a_trial_that_is_far_behind_is_stopped_early(tmp_path: Path) -> None:
    """It would sleep for a minute; the median of the others ends it."""
    stopping = {
        "algorithmName": "medianstop",
        "algorithmSettings": [
            {"name": "min_trials_required", "value": "1"},
            {"name": "start_step", "value": "3"},
        ],
    }

    searched(tmp_path, "--how=lag", earlyStopping=stopping, parallelTrialCount=1, maxTrialCount=3)

    assert states(tmp_path) == ["succeeded", "stopped early", "stopped early"]


def test_a_reached_goal_ends_the_search(tmp_path: Path) -> None:
    """As Katib's does."""
    objective = {"type": "minimize", "goal": 1.5, "objectiveMetricName": "cost_at_budget"}

    assert len(searched(tmp_path, objective=objective, parallelTrialCount=1)["trials"]) == 1


def test_a_finished_search_is_not_repeated_and_another_one_not_mixed_in(tmp_path: Path) -> None:
    """The folder holds one search."""
    first = searched(tmp_path)

    assert searched(tmp_path) == first
    with pytest.raises(InvalidRequest, match="expected the search of"):
        searched(tmp_path, "--how=crash")


@pytest.mark.service
def test_a_search_that_is_killed_goes_on_with_the_trials_that_were_under_way(
    tmp_path: Path,
) -> None:
    """They are tried again, count once, and finished ones are kept."""
    searched(tmp_path, maxTrialCount=2)
    code = (
        "import pathlib, sys; from tests.pipelines.test_tuning import searched;"
        "searched(pathlib.Path(sys.argv[1]), maxTrialCount=4)"
    )
    (tmp_path / "search" / "trial-2.log").unlink(missing_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment(), cwd=ROOT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            log = tmp_path / "search" / "trial-2.log"
            wait_until("the third trial began", log.exists, 60)
        finally:
            os.killpg(process.pid, signal.SIGKILL)

    report = searched(tmp_path, maxTrialCount=4)

    assert [trial["state"] for trial in report["trials"]] == ["succeeded"] * 4


@pytest.mark.parametrize(("how", "trained"), [("crash", ["default"]), ("", ["default", "tuned"])])
def test_the_comparison_trains_each_configuration_once_a_seed(
    tmp_path: Path, how: str, trained: list[str]
) -> None:
    """Where only the default succeeded, it is the tuned one too, and is not trained twice."""
    search = Search(
        experiment=experiment(tmp_path), folder=tmp_path / "search", extra=(f"--how={how}",)
    )
    best = run_search(search, lambda _: None)["best"]["parameters"]

    found = compare(search, best, seeds=2)

    logs = sorted(log.stem for log in search.folder.glob("compare-*.log"))
    assert logs == [f"compare-{name}-{seed}" for name in trained for seed in (1, 2)]
    assert found["tuned"] == sum(found["tuned_by_seed"]) / 2 <= found["default"]
    assert found["tuned_at_least_as_good"]


def test_a_comparison_on_the_mean_says_that_tuned_is_worse(tmp_path: Path) -> None:
    """Better with one seed is no verdict: the trial costs more with every seed but the first."""
    search = Search(
        experiment=experiment(tmp_path), folder=tmp_path / "search", extra=("--how=luck",)
    )
    best = run_search(search, lambda _: None)["best"]["parameters"]

    found = compare(search, best, seeds=3)

    assert found["tuned_by_seed"][0] < found["default_by_seed"][0]
    assert found["tuned"] > found["default"]
    assert not found["tuned_at_least_as_good"]


def test_best_reads_a_local_search_and_writes_the_training_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The config is what `train` and `pipeline run` take with `--config`."""
    report = searched(tmp_path)
    out = tmp_path / "training.json"

    assert main(["tune", "best", "--dir", str(tmp_path / "search"), "--out", str(out)]) == 0

    assert json.loads(out.read_text())["settings"] == report["best"]["settings"]
    assert config_of(out) == report["best"]["settings"]
    assert TrainingSettings().with_values(config_of(out)).branch_steps >= 20
    assert "written to" in capsys.readouterr().out


def test_a_file_that_is_no_training_config_is_refused(tmp_path: Path) -> None:
    """With its name."""
    file = tmp_path / "config.json"
    file.write_text("[]")

    with pytest.raises(InvalidRequest, match=r"--config: expected what .* got .*config.json"):
        config_of(file)


def test_best_reads_what_kubectl_printed(tmp_path: Path) -> None:
    """`kubectl get experiment -o json`, with Katib's status."""
    assignments = [
        {"name": "learning_rate", "value": "0.0021"},
        {"name": "hidden_width", "value": "128"},
        {"name": "n_step", "value": "30"},
    ]
    status = {"currentOptimalTrial": {"bestTrialName": "t-7", "parameterAssignments": assignments}}
    file, out = tmp_path / "experiment.json", tmp_path / "training.json"
    file.write_text(json.dumps({"metadata": {"name": "x"}, "status": status}))

    assert main(["tune", "best", "--file", str(file), "--out", str(out)]) == 0

    assert json.loads(out.read_text()) == {
        "source": "t-7",
        "settings": {"learning_rate": 0.0021, "hidden": [128, 128], "branch_steps": 30},
    }


def test_best_says_that_there_is_none_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 and a sentence, of a cluster and of a folder alike."""
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps({"metadata": {"name": "x"}, "status": {}}))

    assert main(["tune", "best", "--file", str(file)]) == 1
    assert main(["tune", "best", "--dir", str(tmp_path)]) == 1

    said = capsys.readouterr().err
    assert "expected status.currentOptimalTrial" in said
    assert "run `nimbusguard tune run` first" in said


def test_best_of_a_search_in_which_every_trial_failed_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 and a sentence; no config is written."""
    out = tmp_path / "training.json"
    with pytest.raises(InvalidRequest, match="failed trials"):
        searched(tmp_path, "--how=silent", maxFailedTrialCount=0, parallelTrialCount=1)

    assert main(["tune", "best", "--dir", str(tmp_path / "search"), "--out", str(out)]) == 1

    assert "expected a finished trial, got none" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "Error from server (NotFound)", "[]"])
def test_best_refuses_what_kubectl_did_not_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """As after a pipe whose first half failed."""
    file = tmp_path / "experiment.json"
    file.write_text(text)

    assert main(["tune", "best", "--file", str(file)]) == 1

    assert "--file: expected" in capsys.readouterr().err


@pytest.mark.service
@pytest.mark.skipif(
    not TraceSettings.from_environ().folder.is_dir(), reason="the traces are not at hand"
)
def test_three_real_trials_end_with_a_comparison_on_validation_days(tmp_path: Path) -> None:
    """The shipped Experiment, small: the report says whether tuned is as good as the default."""
    small = ("--calibration_decisions=40", "--report_every=1", "--set", "epochs=2")
    small += ("steps_per_epoch=80", "lanes=50", "updates_per_branch=4")
    environ = {**environment(), "KATIB_MAX_TRIAL_COUNT": "3", "KATIB_PARALLEL_TRIAL_COUNT": "2"}
    with pushgateway(tmp_path / "gateway") as gateway:
        asked = [str(COMMAND), "tune", "run", "--dir", str(tmp_path), "--pushgateway", gateway]
        asked += ["--comparison-seeds", "1"]
        done = subprocess.run(
            [*asked, "--", *small],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        page = httpx.get(f"{gateway}/metrics", timeout=10, trust_env=False).text
    assert done.returncode == 0, done.stderr
    counted = [line for line in page.splitlines() if line.startswith(f"{EXPERIMENTS}_total{{")]
    assert len(counted) == 1
    assert counted[0].endswith(" 1")
    assert 'outcome="succeeded"' in counted[0]
    report = json.loads((tmp_path / "report.json").read_text())
    found = report["comparison"]

    assert len(report["trials"]) == 3
    assert found["tuned_at_least_as_good"] == (found["tuned"] <= found["default"])
    said = "at least as good as" if found["tuned_at_least_as_good"] else "WORSE than"
    assert f"the tuned configuration is {said} the default" in done.stdout
