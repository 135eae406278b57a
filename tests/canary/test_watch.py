"""`nimbusguard canary watch` closes the loop: patches move requests, requests make the verdict.

A haproxy splits 300 requests/s between two real pairs by the weights of the InferenceGraph, which
the command patches at a stand-in for the API server. It reads a real Prometheus, as it would in a
cluster. Its patience is shortened: judged every 3 s over the last 90 s, with 150 requests of each
version, which take almost a minute at the first step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from nimbusguard.canary.operations import STEPS
from nimbusguard.cli import main
from tests.canary.api_server import ApiServer, Document
from tests.canary.drill import Drill, Pair, states
from tests.isvc.controller import ServiceSpec
from tests.isvc.load import Load
from tests.isvc.network import Network
from tests.isvc.versions import publish_versions
from tests.manifests.rendering import of_kind, render_overlay, services

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

RATE = 300
SPLITTER = "127.81.2.1"
ADDRESSES = {"stable": "127.81.1.1", "canary": "127.81.1.2"}
PATIENCE = ("--interval", "3", "--window", "90s", "--min-requests", "150")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 to 5; `versions` says what each is."""
    return publish_versions(tmp_path_factory.mktemp("store"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever is started ends with the test."""
    with ExitStack() as opened:
        yield opened


def documents() -> list[Document]:
    """The overlay `canary-graph` with version 2 serving and no canary yet."""
    found = render_overlay("canary-graph")
    services(found)[0]["spec"]["predictor"]["containers"][0]["env"][0]["value"] = (
        "s3://nimbusguard-models/nimbusguard-dqn/2"
    )
    (graph,) = of_kind(found, "InferenceGraph")
    for step, weight in zip(graph["spec"]["nodes"]["root"]["steps"], (100, 0), strict=True):
        step["weight"] = weight
    return found


def splitter(folder: Path, pairs: dict[str, Pair]) -> Network:
    """A gateway before both pairs; all requests go to the stable one."""
    specs = {
        ADDRESSES[name]: ServiceSpec(
            name=name, namespace="drill", label=name, ports=((80, pair.transformer),)
        )
        for name, pair in pairs.items()
    }
    return Network(folder=folder, services=specs, splits={SPLITTER: {"stable": 100, "canary": 0}})


def follow(api: ApiServer, network: Network) -> list[int]:
    """Move the gateway's weights with the graph's; gives back the canary's shares as they come."""
    shares: list[int] = []
    patch = api.patch

    def patched(key: tuple[str, str], operations: list[object]) -> tuple[int, Document]:
        status, after = patch(key, operations)
        if key[0] == "inferencegraphs":
            steps = {s["name"]: s["weight"] for s in after["spec"]["nodes"]["root"]["steps"]}
            network.weigh(SPLITTER, steps)
            shares.append(steps["canary"])
        return status, after

    api.patch = patched  # type: ignore[method-assign]
    return shares


def serving_version(api: ApiServer) -> str:
    """The version that the stable InferenceService names."""
    service = api.objects["inferenceservices", "nimbusguard-dqn-model"]
    value: str = service["spec"]["predictor"]["containers"][0]["env"][0]["value"]
    return value.rpartition("/")[2]


CASES = {
    "good": ("3", 0, [*STEPS, 0], "3"),
    "always SCALE_UP_2": ("4", 4, [1, 0], "2"),
}


@pytest.mark.parametrize("name", CASES)
async def test_watch_promotes_a_good_version_and_rolls_a_bad_one_back(
    name: str,
    stack: ExitStack,
    store: Path,
    tmp_path: Path,
    serve_objects: Callable[[list[Document]], ApiServer],
) -> None:
    """Through every step, or off the first; nobody who asked meanwhile was failed."""
    version, expected, steps, serving = CASES[name]
    drill = Drill(stack, tmp_path, store)
    pairs = {"stable": drill.pair("2"), "canary": drill.pair(version)}
    prometheus = drill.prometheus(*pairs.values())
    network = stack.enter_context(splitter(tmp_path, pairs))
    for label in pairs:
        network.add(label, "127.0.0.1")
    api = serve_objects(documents())
    shares = follow(api, network)
    load = Load(
        address=(SPLITTER, 80),
        host="drill",
        path="/v1/models/nimbusguard-dqn:predict",
        bodies=tuple(orjson.dumps({"instances": [row]}) for row in states(500)),
        rate=RATE,
    )

    running = asyncio.create_task(load.run())
    flags = ("--kind", "graph", "--version", version, "--prometheus", prometheus, *PATIENCE)
    status = await asyncio.to_thread(main, ["canary", "watch", *flags])
    load.stop()
    await running

    assert status == expected
    assert shares == steps
    assert serving_version(api) == serving
    assert load.failures == {}
    assert load.versions.keys() == {"2", version}
