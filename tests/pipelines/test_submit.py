"""The way to a cluster: what Kubeflow Pipelines and Katib are asked, over real HTTP."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.live.processes import ROOT
from tests.pipelines.api import api, kubeconfig
from tests.pipelines.runs import COMMAND, environment

pytestmark = pytest.mark.service
V2 = "/apis/v2beta1"
KFP = {
    ("GET", f"{V2}/healthz"): {"multi_user": False},
    ("GET", f"{V2}/experiments"): {},
    ("POST", f"{V2}/experiments"): {"experiment_id": "e-1", "display_name": "nimbusguard"},
    ("POST", f"{V2}/runs"): {"run_id": "r-1"},
    ("POST", f"{V2}/recurringruns"): {"recurring_run_id": "w-1"},
}


def nimbusguard(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command with a home of its own, in which the SDK keeps its context."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={**environment(), "HOME": str(home), **environ},
    )


def test_a_run_is_submitted_as_it_is_compiled(tmp_path: Path) -> None:
    """The pipeline's own spec, the parameters, the experiment."""
    with api(KFP) as kubeflow:
        done = nimbusguard(
            tmp_path, "pipeline", "run", "--host", kubeflow.url, "--prometheus", "http://p:9090",
            "--store", "s3://b/models", "--set", "traces=s3://b/traces", "seeds=[1,2]",
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "run r-1"
    sent = kubeflow.sent[f"{V2}/runs"]
    shipped = (ROOT / "manifests/pipelines/dqn-training-pipeline.yaml").read_text()
    spec = next(iter(yaml.safe_load_all(shipped)))
    assert sent["pipeline_spec"]["root"] == spec["root"]
    assert sent["runtime_config"]["parameters"]["seeds"] == [1, 2]
    assert sent["runtime_config"]["parameters"]["store"] == "s3://b/models"
    assert sent["experiment_id"] == "e-1"


def test_the_recurring_run_is_asked_for_as_the_manifest_says(tmp_path: Path) -> None:
    """Name, cron, one at a time, no catching up, the parameters."""
    with api(KFP) as kubeflow:
        done = nimbusguard(tmp_path, "pipeline", "schedule", "--host", kubeflow.url)

    assert done.returncode == 0, done.stderr
    sent = kubeflow.sent[f"{V2}/recurringruns"]
    recurring = yaml.safe_load((ROOT / "manifests/pipelines/recurring-run.yaml").read_text())
    assert sent["display_name"] == recurring["name"]
    assert sent["trigger"]["cron_schedule"]["cron"] == recurring["cron"]
    assert int(sent["max_concurrency"]) == 1
    assert sent["no_catchup"] is True
    assert sent["runtime_config"]["parameters"] == recurring["parameters"]


def test_a_host_that_is_gone_is_named(tmp_path: Path) -> None:
    """One line and status 1."""
    done = nimbusguard(tmp_path, "pipeline", "schedule", "--host", "http://127.0.0.1:9")

    assert done.returncode == 1
    assert "Kubeflow Pipelines at http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recurring_run_with_another_field_is_refused(tmp_path: Path) -> None:
    """A misspelt field would be a silent default."""
    file = tmp_path / "recurring.yaml"
    file.write_text("name: x\nchron: '0 0 3 * * 0'\n")

    done = nimbusguard(
        tmp_path, "pipeline", "schedule", "--host", "http://127.0.0.1:9", "--file", str(file)
    )

    assert done.returncode == 1
    assert "recurring run: expected the fields" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedes=[1]", "expected NAME=VALUE with one of"),
        ("seeds=1", "--set seeds: expected a list as JSON"),
        ("hours=many", "--set hours: expected a float as JSON"),
    ],
)
def test_a_parameter_that_the_pipeline_has_not_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    """Before a folder or a run is made."""
    folder = tmp_path / "run"
    done = nimbusguard(
        tmp_path, "pipeline", "run", "--local", "--dir", str(folder), "--prometheus", "http://p",
        "--set", text,
    )  # fmt: skip

    assert done.returncode == 1
    assert message in done.stderr
    assert not folder.exists()


def test_the_best_trial_is_read_from_katib(tmp_path: Path) -> None:
    """By the kubeconfig, from the status of the Experiment that the YAML names."""
    path = (
        "/apis/kubeflow.org/v1beta1/namespaces/nimbusguard-experiments/experiments/"
        "nimbusguard-dqn-hyperparameter-tuning"
    )
    optimal = {
        "bestTrialName": "trial-7",
        "parameterAssignments": [{"name": "learning_rate", "value": "0.0021"}],
    }
    out = tmp_path / "training.json"
    with api({("GET", path): {"status": {"currentOptimalTrial": optimal}}}) as cluster:
        config = tmp_path / "kubeconfig"
        config.write_text(yaml.safe_dump(kubeconfig(cluster.url)))
        done = nimbusguard(
            tmp_path, "tune", "best", "--cluster", "--out", str(out), KUBECONFIG=str(config)
        )
        missing = nimbusguard(
            tmp_path, "tune", "best", "--cluster", "--context", "other", KUBECONFIG=str(config)
        )

    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == {
        "source": "trial-7",
        "settings": {"learning_rate": 0.0021},
    }
    assert missing.returncode == 1
    assert "kubeconfig: expected one that names a cluster" in missing.stderr
