"""Runs of the pipeline: on this machine without containers, on a cluster, or again and again.

A local run has a folder. `run.json` fixes its parameters and its moment when it begins; finished
steps are kept in `cache/`, unfinished ones go on in `work/`; `result.json` is written at the end.
So a run that was killed is repeated with the same command, and a finished one is only shown.
"""

from __future__ import annotations

import fcntl
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import kfp
import orjson
from kfp import local

from model_store.store import open_store
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, Unavailable
from training.dataset import write_document
from training.pipeline import PIPELINE_NAME, compile_to, training_pipeline
from training.steps import GATE_FILE, published_version

RUN_FILE: Final = "run.json"
RESULT_FILE: Final = "result.json"
EXPERIMENT: Final = "nimbusguard"


class StepFailed(NimbusGuardError):  # noqa: N818 - read as a fact
    """A step of a local run failed; what it printed stands above."""


def run_local(folder: Path, parameters: Mapping[str, Any], *, now_s: float) -> dict[str, Any]:
    """Run the pipeline as processes of this machine, or go on with a run that was stopped.

    Args:
        folder: Of this run.
        parameters: Of the pipeline, but for `as_of`, `run_id` and `work`, which the run sets.
        now_s: Unix time, the end of the data of a new run unless `as_of` is given.

    Returns:
        `run_id`, whether the `gate` passed, its `conditions`, and the `version` or None.

    Raises:
        InvalidRequest: The folder holds a run with other parameters, or one that is under way.
        StepFailed: A step failed.
    """
    folder = folder.absolute()
    with _alone(folder):
        fixed = _open(folder, parameters, now_s)
        if (folder / RESULT_FILE).is_file():
            finished: dict[str, Any] = orjson.loads((folder / RESULT_FILE).read_bytes())
            return finished
        _run(folder, fixed)
        result = _result(folder, fixed)
        write_document(folder / RESULT_FILE, result)
        return result


def submit(host: str, parameters: Mapping[str, Any], *, experiment: str = EXPERIMENT) -> str:
    """Run the pipeline on a cluster; returns the run's id."""
    with _package() as package, _reached(host):
        client = kfp.Client(host=host)
        run = client.create_run_from_pipeline_package(
            str(package),
            arguments=dict(parameters),
            # Caching is left to the steps' own settings: said here, it would hold for all of them.
            experiment_name=experiment,
        )
        return str(run.run_id)


def schedule(host: str, recurring: Mapping[str, Any]) -> str:
    """Make the cluster run the pipeline again and again; returns the recurring run's id.

    Args:
        host: The API of Kubeflow Pipelines.
        recurring: What `manifests/pipelines/recurring-run.yaml` holds.

    Raises:
        InvalidRequest: A field is missing or unknown.
    """
    names = {"name", "experiment", "cron", "max_concurrency", "catch_up", "parameters"}
    if recurring.keys() != names:
        message = f"recurring run: expected the fields {sorted(names)}, got {sorted(recurring)}"
        raise InvalidRequest(message)
    with _package() as package, _reached(host):
        client = kfp.Client(host=host)
        experiment = client.create_experiment(recurring["experiment"])
        made = client.create_recurring_run(
            experiment_id=experiment.experiment_id,
            job_name=recurring["name"],
            cron_expression=recurring["cron"],
            max_concurrency=recurring["max_concurrency"],
            no_catchup=not recurring["catch_up"],
            params=dict(recurring["parameters"]),
            pipeline_package_path=str(package),
        )
        return str(made.recurring_run_id)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{folder}: expected no other process to run this pipeline, got one"
            raise InvalidRequest(message) from error
        yield


def _open(folder: Path, parameters: Mapping[str, Any], now_s: float) -> dict[str, Any]:
    path = folder / RUN_FILE
    asked: dict[str, Any] = orjson.loads(orjson.dumps(dict(parameters)))
    if not path.is_file():
        fixed = {"as_of": str(int(now_s)), **asked, "run_id": uuid.uuid4().hex}
        write_document(path, {"asked": asked, "fixed": {**fixed, "work": str(folder / "work")}})
    document = orjson.loads(path.read_bytes())
    if document["asked"] != asked:
        message = f"{path}: expected the parameters of this run, got others; name another folder"
        raise InvalidRequest(message)
    return dict(document["fixed"])


def _run(folder: Path, parameters: Mapping[str, Any]) -> None:
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "steps"),
        enable_caching=True,
        cache_root=str(folder / "cache"),
    )
    with warnings.catch_warnings():
        # That there is no container, and no limit of its memory, is what was asked for.
        warnings.filterwarnings("ignore", message="You may be attemping")
        warnings.filterwarnings("ignore", message=".* have no effect in the current local runner")
        try:
            training_pipeline()(**parameters)
        except RuntimeError as error:
            raise StepFailed(str(error)) from error


def _result(folder: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = sorted((folder / "steps").rglob(f"gate/verdict/{GATE_FILE}"))
    gate = orjson.loads(found[-1].read_bytes())["gate"]
    version = published_version(open_store(parameters["store"]), parameters["run_id"])
    return {
        "run_id": parameters["run_id"],
        "gate": "passed" if gate["passed"] else "refused",
        "conditions": gate["conditions"],
        "version": version,
    }


@contextmanager
def _package() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{PIPELINE_NAME}.yaml"
        compile_to(package)
        yield package


@contextmanager
def _reached(host: str) -> Iterator[None]:
    """Name the host in what its client raises."""
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (ApiException, HTTPError, TimeoutError) as error:
        message = f"Kubeflow Pipelines at {host}: expected an answer, got {error}"
        raise Unavailable(message) from error
