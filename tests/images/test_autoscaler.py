"""The operator's image, run as its Deployment says, beside stand-ins for the cluster."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import httpx
import pytest

from tests.images.container import WHO, Container, answers, free_port, wait_until
from tests.images.toolchain import Built
from tests.isvc.kubelet import cores, size
from tests.manifests.rendering import MANIFESTS, Document, of_kind, render
from tests.standin.process import stand_ins

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]

POLICIES = 5


@pytest.fixture(scope="module")
def spec() -> Document:
    """The PodSpec of the Deployment."""
    (deployment,) = of_kind(render(MANIFESTS / "autoscaler"), "Deployment")
    found: Document = deployment["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """The stand-ins, and the variables that lead to them in place of the cluster's names."""
    with stand_ins(POLICIES) as environment:
        yield environment | {"AUTOSCALER_PORT": str(free_port())}


def container(image: Built, spec: Document, addresses: dict[str, str]) -> Container:
    """The one container of the pod: its user, limits, volumes and variables."""
    (only,) = spec["containers"]
    context, limits = only["securityContext"], only["resources"]["limits"]
    options = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
    options += ["--cpus", str(cores(limits["cpu"]))]
    volumes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"]}
    for mount in only["volumeMounts"]:
        limit = size(volumes[mount["name"]])
        options += ["--tmpfs", f"{mount['mountPath']}:rw,size={limit},mode=1777"]
    given = {entry["name"]: entry.get("value", "operator-0") for entry in only["env"]}
    return Container(
        image=image.reference,
        options=options,
        environment={**given, **addresses},
        memory=size(limits["memory"]),
    )


def decisions(url: str) -> float:
    """How many it has made."""
    lines = httpx.get(f"{url}/metrics", timeout=5).text.splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("nimbusguard_operator_decisions_total")
    )


def test_the_operator_decides_in_its_container_and_ends_cleanly(
    images: dict[str, Built],
    spec: Document,
    addresses: dict[str, str],
    record_property: pytest.RecordProperty,
) -> None:
    """Read-only root, no capability, not root; every policy gets a decision; SIGTERM ends it."""
    url = f"http://127.0.0.1:{addresses['AUTOSCALER_PORT']}"

    with container(images["autoscaler"], spec, addresses) as running:
        started = wait_until(lambda: answers(f"{url}/healthz"), running)
        record_property("autoscaler_live_s", round(started, 2))
        print(f"autoscaler: live after {started:.1f} s")  # noqa: T201
        wait_until(lambda: decisions(url) >= POLICIES, running)
        shown = running.execute("/opt/nimbusguard/bin/python", "-c", WHO)
        status = running.stop(spec["terminationGracePeriodSeconds"])

    user, capabilities, writable = shown.stdout.strip().split(" ", 2)
    assert (user, capabilities) == ("10001", "0000000000000000"), shown.stderr
    assert set(ast.literal_eval(writable)) == {"/tmp", "/data", "/dev/shm"}  # noqa: S108
    assert status == 0
