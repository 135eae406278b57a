"""The RayService and the code that it starts agree."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from predictor.ray_environ import RAY_ENVIRON

FOLDER = Path(__file__).parents[2] / "manifests" / "ray"


def _load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return document


def _containers() -> list[dict[str, Any]]:
    cluster = _load("rayservice.yaml")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"]["containers"][0] for group in groups]


def test_every_ray_process_gets_the_environment_that_the_code_sets() -> None:
    """Head and workers carry the values of `predictor.ray_environ`, all of them and no others."""
    for container in _containers():
        environ = {entry["name"]: entry["value"] for entry in container["env"]}

        assert {k: v for k, v in environ.items() if k.startswith("RAY_")} == RAY_ENVIRON


# Ray's own settings classes are written for an older pydantic.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_the_import_path_builds_the_application(monkeypatch: Any) -> None:
    """`import_path` with its `args` gives an application with the replicas of the environment."""
    environ = {entry["name"]: entry["value"] for entry in _containers()[0]["env"]}
    for key, value in environ.items():
        if key.startswith("NIMBUSGUARD_"):
            monkeypatch.setenv(key, value)
    config = yaml.safe_load(_load("rayservice.yaml")["spec"]["serveConfigV2"])
    (entry,) = config["applications"]
    module, name = entry["import_path"].split(":")

    application = getattr(importlib.import_module(module), name)(entry["args"])

    scaling = application._bound_deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 8)


def test_the_transformer_points_at_the_service_that_kuberay_makes() -> None:
    """KubeRay calls it `<name>-serve-svc`; the port is that of Serve's HTTP proxy."""
    service = _load("rayservice.yaml")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    isvc = _load("inferenceservice.yaml")
    args = isvc["spec"]["predictor"]["containers"][0]["args"]

    host = f"{service['metadata']['name']}-serve-svc.nimbusguard-serving"
    assert f"--predictor_host={host}:{config['http_options']['port']}" in args
