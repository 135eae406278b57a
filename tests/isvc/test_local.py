"""The local overlay, running: called as an operator calls it, under all its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model_store.packaged import packaged_store
from tests.images.container import PODMAN, RESTRICTED, WHO, WRITABLE_TMP
from tests.images.toolchain import run
from tests.isvc.conftest import Running, Start, starting
from tests.isvc.layout import IMAGES, OPERATORS_NAME
from tests.manifests.rendering import render_overlay

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]

MODEL = "nimbusguard-dqn"
ROW = [0.82, 0.5, 120000, 210, 4, 0.4, 0.002, 12, 0.1, 0.4, 0.6]
V1 = f"http://{OPERATORS_NAME}/v1/models/nimbusguard-dqn:predict"
V2 = f"http://{OPERATORS_NAME}/v2/models/nimbusguard-dqn/infer"

CALLER = """
import json, sys, httpx
answer = httpx.post(sys.argv[1], json=json.loads(sys.argv[2]), timeout=5)
print(answer.status_code, answer.text)
"""


@pytest.fixture(scope="module")
def local(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The overlay `local`, as rendered."""
    with starting(
        store, tmp_path_factory.mktemp("local"), subnets=("127.79.0", "127.79.1")
    ) as start:
        yield start(render_overlay("local"))


def call(running: Running, url: str, body: object) -> tuple[int, dict[str, object]]:
    """Ask from another pod, which knows the services by their names in cluster DNS alone."""
    names = [
        part for pair in running.network.hosts.items() for part in ("--add-host", ":".join(pair))
    ]
    options = ("--rm", "--entrypoint", "/opt/nimbusguard/bin/python", *names)
    asked = (IMAGES["nimbusguard/transformer:0.1.0"], "-c", CALLER, url, json.dumps(body))
    printed = run(*PODMAN, *RESTRICTED, *WRITABLE_TMP, *options, *asked)
    status, _, text = printed.partition(" ")
    return int(status), json.loads(text)


def test_an_operator_gets_a_decision_by_the_name_that_it_knows(local: Running) -> None:
    """V1 through the Service that Standard mode would lack without us."""
    status, answer = call(local, V1, {"instances": [ROW]})

    assert status == httpx.codes.OK
    (decision,) = answer["predictions"]  # type: ignore[misc]
    assert decision["target_replicas"] == decision["current_replicas"] + decision["replica_change"]
    assert decision["model_name"] == "nimbusguard-dqn"
    assert decision["model_version"] == packaged_store().resolve(MODEL, "production")


def test_both_protocols_give_the_same_decision(local: Running) -> None:
    """V2 with the same row."""
    tensor = {"name": "raw_metrics", "shape": [1, 11], "datatype": "FP64", "data": ROW}
    _, first = call(local, V1, {"instances": [ROW]})
    status, second = call(local, V2, {"inputs": [tensor]})

    assert status == httpx.codes.OK
    outputs = {output["name"]: output["data"] for output in second["outputs"]}  # type: ignore[attr-defined]
    (decision,) = first["predictions"]  # type: ignore[misc]
    assert outputs["action"] == [decision["action"]]
    assert outputs["target_replicas"] == [decision["target_replicas"]]
    assert outputs["q_values"] == pytest.approx(decision["q_values"], abs=1e-6)


def test_a_mistake_is_told_through_every_hop(local: Running) -> None:
    """Ten features instead of eleven: 400, and the message says so."""
    status, answer = call(local, V1, {"instances": [ROW[:10]]})

    assert status == httpx.codes.BAD_REQUEST
    assert "11" in str(answer["error"])


@pytest.mark.parametrize("component", ["predictor", "transformer"])
def test_a_pod_is_not_root_and_writes_nowhere_but_tmp(local: Running, component: str) -> None:
    """Read-only root, no capability, the user of the manifest, while it serves."""
    (pod,) = local.cluster.pods[f"nimbusguard-dqn-model-{component}"]
    shown = pod.containers[0].execute("/opt/nimbusguard/bin/python", "-c", WHO)

    assert shown.stdout.strip() == "10001 0000000000000000 ['/tmp']", shown.stderr


def test_a_pod_starts_in_time_and_ends_cleanly(
    run_overlay: Start, record_property: pytest.RecordProperty
) -> None:
    """Ready within the startup probe's patience; SIGTERM after preStop ends with status 0."""
    running = run_overlay(render_overlay("local"))
    pods = [pods[0] for pods in running.cluster.pods.values()]
    for pod in pods:
        record_property(f"{pod.template.name}_ready_s", round(pod.ready_after_s, 2))
        print(f"{pod.template.name}: ready after {pod.ready_after_s:.1f} s")  # noqa: T201

    codes = [code for pod in pods for code in pod.terminate()]

    assert max(pod.ready_after_s for pod in pods) < 60
    assert codes == [0, 0]


def test_a_collocated_pod_decides_and_ends_cleanly(run_overlay: Start) -> None:
    """Both containers on one address; the transformer drains before the model goes."""
    running = run_overlay(render_overlay("collocated"))
    status, answer = call(running, V1, {"instances": [ROW]})
    codes = [
        code for pods in running.cluster.pods.values() for pod in pods for code in pod.terminate()
    ]

    assert status == httpx.codes.OK
    assert answer["predictions"][0]["model_name"] == MODEL  # type: ignore[index]
    assert codes == [0, 0, 0, 0]


def test_the_version_is_the_one_that_the_storage_uri_names(
    run_overlay: Start, tmp_path: Path
) -> None:
    """With a claim the model comes from /mnt/models, not from the image."""
    documents = render_overlay("local-pvc")
    (service,) = [document for document in documents if document["kind"] == "InferenceService"]
    service["spec"]["predictor"]["containers"][0]["env"][0]["value"] = (
        "pvc://nimbusguard-models/nimbusguard-dqn/2"
    )

    status, answer = call(run_overlay(documents), V1, {"instances": [ROW]})

    assert status == httpx.codes.OK
    assert answer["predictions"][0]["model_version"] == "2"  # type: ignore[index]


def test_a_version_with_a_foreign_feature_table_never_serves(
    run_overlay: Start,
) -> None:
    """Its predictor ends with the reason, so no pod becomes ready and no request reaches it."""
    documents = render_overlay("local-pvc")
    (service,) = [document for document in documents if document["kind"] == "InferenceService"]
    service["spec"]["predictor"]["containers"][0]["env"][0]["value"] = (
        "pvc://nimbusguard-models/nimbusguard-dqn/5"
    )

    with pytest.raises(AssertionError, match="expected fingerprint"):
        run_overlay(documents)
