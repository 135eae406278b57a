"""The targets `kubeflow-*`, run as written by the real kubectl against a stand-in for a cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import yaml

from loadtest.__main__ import serving
from tests.manifests.api_server import ApiServer
from tests.manifests.rendering import MANIFESTS, render_overlay

pytestmark = pytest.mark.service

ROOT = MANIFESTS.parent


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """A real pair of servers, in the place of the pods."""
    with serving() as url:
        yield url


@pytest.fixture
def api(upstream: str) -> Iterator[ApiServer]:
    """An empty cluster."""
    server = ApiServer(upstream)
    yield server
    server.stop()


def make(api: ApiServer | None, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a target with a kubeconfig that leads to the stand-in, or to nobody."""
    path = folder / "kubeconfig"
    cluster = {"server": api.url if api else "http://127.0.0.1:9"}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": {}}],
            }
        )
    )
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={**os.environ, "KUBECONFIG": str(path), "HOME": str(folder), "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_readmes_third_command_ends_with_a_decision(api: ApiServer, tmp_path: Path) -> None:
    """`kubeflow-serving` waits for both components, `kubeflow-serving-test` asks the service."""
    applied = make(api, tmp_path, "kubeflow-serving", "OVERLAY=local")
    asked = make(api, tmp_path, "kubeflow-serving-test")

    assert applied.returncode == 0, applied.stdout + applied.stderr
    rendered = {
        (document["kind"].lower() + "s", document["metadata"]["name"])
        for document in render_overlay("local")
    }
    assert rendered <= api.objects.keys()
    assert applied.stdout.count("condition met") == 2
    assert asked.returncode == 0, asked.stderr
    decision = orjson.loads(asked.stdout.splitlines()[-1])["predictions"][0]
    assert decision["model_name"] == "nimbusguard-dqn"
    assert api.requests[-1][1].endswith("/services/nimbusguard-dqn-model:80/proxy"
                                        "/v1/models/nimbusguard-dqn:predict")  # fmt: skip


def test_status_and_logs_show_both_components(api: ApiServer, tmp_path: Path) -> None:
    """The conditions by name, the pods, and the last lines of each."""
    make(api, tmp_path, "kubeflow-serving", "OVERLAY=local")

    status = make(api, tmp_path, "kubeflow-status")
    logs = make(api, tmp_path, "kubeflow-logs", "LINES=5")

    assert status.returncode == 0, status.stderr
    rows = [row.split() for row in status.stdout.splitlines()]
    line = next(row for row in rows if row[:1] == ["nimbusguard-dqn-model"])
    assert line[1:4] == ["True", "True", "True"]
    assert logs.returncode == 0, logs.stderr
    for component in ("predictor", "transformer"):
        name = f"nimbusguard-dqn-model-{component}"
        assert f"pod/{name}" in status.stdout
        assert f"[pod/{name}/kserve-container] the log of {name}" in logs.stdout


@pytest.mark.parametrize(
    "target", ["kubeflow-serving", "kubeflow-serving-test", "kubeflow-status", "kubeflow-logs"]
)
def test_without_a_cluster_a_target_says_so(tmp_path: Path, target: str) -> None:
    """Before it does anything, in one line."""
    result = make(None, tmp_path, target)

    assert result.returncode != 0
    assert "kubectl reaches no cluster" in result.stderr
