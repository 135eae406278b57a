"""The same way in a cluster that runs it already: published, served, on trial, deciding."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.live.processes import ROOT

pytestmark = pytest.mark.cluster
SERVING, SERVICE, MODEL = "nimbusguard-serving", "nimbusguard-dqn-model", "nimbusguard-dqn"
EXPERIMENTS, EXPERIMENT = "nimbusguard-experiments", "nimbusguard-dqn-hyperparameter-tuning"


def kubectl(kubeconfig: str, *arguments: str) -> str:
    """What kubectl prints."""
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={kubeconfig}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(kubeconfig: str, *arguments: str) -> Any:
    """What kubectl prints as JSON."""
    return json.loads(kubectl(kubeconfig, *arguments, "-o", "json"))


def test_both_components_of_the_service_are_ready(kubeconfig: str) -> None:
    """`Ready` alone may be older than one of them."""
    service = listed(kubeconfig, "-n", SERVING, "get", "inferenceservice", SERVICE)
    states = {each["type"]: each["status"] for each in service["status"]["conditions"]}

    assert states["PredictorReady"] == "True"
    assert states.get("TransformerReady", "True") == "True"


def test_the_service_decides(kubeconfig: str) -> None:
    """The payload of the documentation, through the API server's proxy."""
    path = f"/api/v1/namespaces/{SERVING}/services/{SERVICE}:80/proxy/v1/models/{MODEL}:predict"
    payload = ROOT / "tests/data/v1/named.json"

    answer = json.loads(kubectl(kubeconfig, "create", "--raw", path, "-f", str(payload)))

    assert answer["predictions"][0]["action"].split("_")[0] in {"SCALE", "NO"}
    assert answer["predictions"][0]["model_version"]


def test_the_operator_decides_with_a_served_version(kubeconfig: str) -> None:
    """Every policy that acts names the version behind its last decision."""
    policies = listed(kubeconfig, "get", "scalingpolicies.nimbusguard.io", "--all-namespaces")
    decided = [each["status"] for each in policies["items"] if each.get("status")]

    assert decided
    assert all(each["modelVersion"] for each in decided if each["source"] == "kserve")


def test_the_search_has_a_best_trial(kubeconfig: str) -> None:
    """And no more failures than it allows."""
    found = listed(kubeconfig, "-n", EXPERIMENTS, "get", "experiment", EXPERIMENT)

    assert found["status"]["currentOptimalTrial"]["parameterAssignments"]
    assert found["status"].get("trialsFailed", 0) <= found["spec"]["maxFailedTrialCount"]
