"""The Make targets that users know: there, and honest about what is missing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.live.processes import ROOT
from tests.pipelines.api import api, kubeconfig

NAMES = (
    "k8s-dev", "kubeflow-install", "kubeflow-pipelines", "kubeflow-experiments",
    "kubeflow-experiments-status", "kubeflow-experiments-best", "kubeflow-serving",
    "kubeflow-serving-test", "kubeflow-status", "kubeflow-logs",
)  # fmt: skip


EMPTY_CLUSTER = {
    ("GET", "/version"): {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    ("GET", "/api"): {"kind": "APIVersions", "versions": ["v1"]},
    ("GET", "/api/v1"): {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
    ("GET", "/apis"): {"kind": "APIGroupList", "groups": []},
}
"""A cluster in which nothing is installed, as far as kubectl asks."""


def make(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run make where no cluster can be reached."""
    env = {**os.environ, "KUBECONFIG": "/dev/null", **environ}
    env.pop("KFP_HOST", None)
    return subprocess.run(
        ["make", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_target_with_a_line_of_help(name: str) -> None:
    """`make help` shows it."""
    assert re.search(rf"^  {name}\s+\S", make("help").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if name not in {"k8s-dev", "kubeflow-pipelines"}],
)
def test_a_target_that_needs_a_cluster_says_that_there_is_none(name: str) -> None:
    """Before it runs anything."""
    done = make(name)

    assert done.returncode != 0
    assert "kubectl reaches no cluster" in done.stderr
    assert "apply" not in done.stdout


def test_a_schedule_needs_the_address_of_kubeflow_pipelines() -> None:
    """And says how to get one."""
    done = make("kubeflow-pipelines")

    assert done.returncode != 0
    assert "KFP_HOST is not set" in done.stderr


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            "kubeflow-experiments",
            "no experiments.kubeflow.org; install Katib: make kubeflow-install",
        ),
        ("kubeflow-experiments-status", "no experiments.kubeflow.org"),
        ("kubeflow-experiments-best", "no experiments.kubeflow.org"),
        ("kubeflow-serving", "no inferenceservices.serving.kserve.io; install KServe"),
        ("kubeflow-serving-test", "no inferenceservices.serving.kserve.io"),
        ("kubeflow-status", "no inferenceservices.serving.kserve.io"),
        ("k8s-dev CHOICE=2", "no inferenceservices.serving.kserve.io"),
        ("k8s-dev CHOICE=3", "no inferenceservices.serving.kserve.io"),
    ],
)
def test_what_a_cluster_lacks_is_named_before_anything_is_applied(
    tmp_path: Path, target: str, told: str
) -> None:
    """By the API that is not served, and where it comes from; nothing is sent but questions."""
    with api(EMPTY_CLUSTER) as cluster:
        config = tmp_path / "kubeconfig"
        config.write_text(yaml.safe_dump(kubeconfig(cluster.url)))
        done = make(*target.split(), KUBECONFIG=str(config), HOME=str(tmp_path))

    assert done.returncode != 0
    assert told in done.stderr
    assert "apply" not in done.stdout
    assert cluster.sent == {}


def test_kubeflow_pipelines_that_do_not_answer_are_named() -> None:
    """By the address that was given."""
    done = make("kubeflow-pipelines", "KFP_HOST=http://127.0.0.1:9")

    assert done.returncode != 0
    assert "Kubeflow Pipelines does not answer at http://127.0.0.1:9" in done.stderr


def test_nobody_there_to_choose_is_told_how_to_choose_without_asking() -> None:
    """As in a build, which has no terminal."""
    done = make("k8s-dev")

    assert done.returncode != 0
    assert "expected 1, 2 or 3, got ''; without a terminal: make k8s-dev CHOICE=1" in done.stderr


def test_an_unknown_choice_is_refused_with_the_known_ones() -> None:
    """The menu is shown; nothing is run."""
    done = make("k8s-dev", CHOICE="4")

    assert done.returncode != 0
    assert "expected 1, 2 or 3, got '4'" in done.stderr
    assert "3) hybrid" in done.stderr


def test_a_choice_says_what_is_missing_before_it_runs_anything(tmp_path: Path) -> None:
    """Kubeflow without kubectl."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "bash").symlink_to("/bin/bash")
    done = subprocess.run(
        ["bash", "manifests/k8s-dev.sh"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": str(tools), "CHOICE": "2"},
        cwd=ROOT,
    )

    assert done.returncode == 1
    assert "missing: kubectl (and a context that reaches a cluster)" in done.stderr
    assert "runs:" not in done.stdout
