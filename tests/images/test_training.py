"""The training image: what Kubeflow and Katib start in it runs, not root, writing nothing."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from tests.images.container import PODMAN, RESTRICTED
from tests.images.toolchain import ROOT, Built, run
from training.katib import FILTER
from training.simulator.settings import TraceSettings

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]
TMP = ("--tmpfs", "/tmp:rw,size=512m,mode=1777", "--tmpfs", "/dev/shm:ro,size=64k")  # noqa: S108
TINY = "--set epochs=2 steps_per_epoch=80 lanes=50 updates_per_branch=4"


@pytest.fixture
def image(images: dict[str, Built]) -> Built:
    """The training image alone."""
    return images["training"]


def started(image: Built, *command: str, options: tuple[str, ...] = ()) -> str:
    """What a command prints in the image under all restrictions, with one place to write."""
    entry, *arguments = command
    flags = ("--rm", "--memory", "2g", *options, "--entrypoint", entry)
    return run(*PODMAN, *RESTRICTED, *TMP, *flags, image.reference, *arguments)


def test_the_image_compiles_to_the_shipped_pipeline(image: Built) -> None:
    """The code inside is the code of the manifests."""
    script = "nimbusguard pipeline compile --out /tmp/p.yaml && cat /tmp/p.yaml"

    printed = started(image, "/bin/sh", "-c", script)

    assert printed == (ROOT / "manifests/pipelines/dqn-training-pipeline.yaml").read_text()


def test_a_step_runs_in_the_image_as_kubeflow_starts_it(image: Built) -> None:
    """Command and arguments as the compiled pipeline has them, with the launcher's input."""
    text = (ROOT / "manifests/pipelines/dqn-training-pipeline.yaml").read_text()
    executors = next(iter(yaml.safe_load_all(text)))["deploymentSpec"]["executors"]
    container = executors["exec-open-run"]["container"]
    given = json.dumps(
        {
            "inputs": {"parameterValues": {"as_of": "1780000005"}},
            "outputs": {
                "parameters": {"Output": {"outputFile": "/tmp/out/Output"}},  # noqa: S108
                "outputFile": "/tmp/out/executor_output.json",  # noqa: S108
            },
        }
    )
    arguments = [part.replace("{{$}}", given) for part in container["args"]]
    command = [*container["command"], *arguments]
    # The step runs; what it would hand on is printed after it.
    script = '"$@" > /dev/null 2>&1 && cat /tmp/out/executor_output.json'

    printed = started(image, "/bin/sh", "-c", script, "sh", *command)

    assert json.loads(printed)["parameterValues"] == {"Output": "1780000005"}


@pytest.mark.skipif(
    not TraceSettings.from_environ().folder.is_dir(), reason="the traces are not at hand"
)
def test_a_trial_runs_in_the_image_as_katib_starts_it(image: Built) -> None:
    """With the traces as a read-only volume; its last line is the objective."""
    traces = TraceSettings.from_environ().folder
    options = ("-v", f"{traces}:/traces:ro", "--env", "NIMBUSGUARD_TRACES=/traces")
    command = f"python -m training.trial --learning_rate=0.001 --calibration_decisions=40 {TINY}"

    printed = started(image, "/bin/sh", "-c", command, options=options)

    found = dict(match[:2] for match in re.findall(FILTER, printed.splitlines()[-1]))
    assert float(found["cost_at_budget"]) > 0.0


def test_a_trial_that_fails_ends_with_status_one(image: Built) -> None:
    """Katib takes the pod's failure for the trial's."""
    flags = ("--rm", "--memory", "2g", "--entrypoint", "python")
    command = ["-m", "training.trial", "--learning_rate=-1"]
    done = subprocess.run(
        [*PODMAN, *RESTRICTED, *TMP, *flags, image.reference, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    assert "trial failed: training setting learning_rate" in done.stderr
    assert not re.search(r"cost_at_budget", done.stdout)
