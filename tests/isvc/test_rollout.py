"""Rolling update, canary steps, promotion and rollback under 500 requests/s: nobody notices.

No request may fail, whatever else the machine does. The callers ask 550 times a second and must
have come to 500 over the whole of it, unless the machine itself was spent: where less than a tenth
of its processor time was idle, the rate says how busy the machine was and nothing of the servers,
and half of it is enough for the rollout to be one under load. Which of both was needed is printed
with the figures.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles

import jsonpatch
import orjson
import pytest

from nimbusguard.canary.plan import Patch, promote_graph, rollback_graph, start_graph
from tests.images.container import wait_until
from tests.isvc.conftest import Running, Start
from tests.isvc.layout import OPERATORS_NAME
from tests.isvc.load import Load
from tests.manifests.rendering import Document, of_kind, render_overlay, services

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]

RATE, ASKED = 500, 550
SPENT = 0.1
"""Idle share below which the machine and not the servers sets the rate."""
SPLITTER = "127.78.2.1"
BODY = orjson.dumps({"instances": [[0.82, 0.5, 120000, 210, 4, 0.4, 0.002, 12, 0.1, 0.4, 0.6]]})


@contextmanager
def constant_load(address: str) -> Iterator[Load]:
    """Requests at a constant rate, in a thread of their own, from the first to the last line."""
    load = Load(
        address=(address, 80),
        host=OPERATORS_NAME,
        path="/v1/models/nimbusguard-dqn:predict",
        bodies=(BODY,),
        rate=ASKED,
    )
    thread = threading.Thread(target=lambda: asyncio.run(load.run()))
    thread.start()
    try:
        settle(load)
        yield load
        settle(load)
    finally:
        load.stop()
        thread.join(timeout=30)


def settle(load: Load) -> None:
    """Wait until what was under way is answered, then count the versions of two more seconds."""
    for requests in (RATE // 2, 2 * RATE):
        load.versions.clear()
        before = load.sent
        wait_until(lambda: load.sent - before >= requests, within_s=60)  # noqa: B023 - at once


def needed(load: Load) -> float:
    """The rate that the callers must have reached."""
    return RATE if load.idle >= SPENT else RATE / 2


def report(name: str, load: Load, record: pytest.RecordProperty) -> None:
    """Print what the callers saw."""
    cuts = quantiles(load.latencies_s, n=1000)
    record(name, load.sent)
    print(  # noqa: T201
        f"{name}: {load.sent} requests in {load.seconds:.1f} s, {load.sent / load.seconds:.0f}/s "
        f"({needed(load):.0f}/s needed, {load.idle:.0%} of the machine idle), "
        f"{load.failures.total()} failed, "
        f"p50 {cuts[499] * 1e3:.1f} ms, p99 {cuts[989] * 1e3:.1f} ms, "
        f"p99.9 {cuts[998] * 1e3:.1f} ms"
    )


def with_version(documents: list[Document], version: str) -> list[Document]:
    """The same objects with another model version."""
    for service in services(documents):
        for entry in service["spec"]["predictor"]["containers"][0]["env"]:
            if entry["name"] == "STORAGE_URI":
                entry["value"] = f"s3://nimbusguard-models/nimbusguard-dqn/{version}"
    return documents


def test_a_rolling_update_of_both_components_fails_no_request(
    run_overlay: Start, record_property: pytest.RecordProperty
) -> None:
    """Two replicas each, one by one: first another model version, then a new transformer."""
    running = run_overlay(render_overlay("production"))

    with constant_load(running.network.hosts[OPERATORS_NAME]) as load:
        updated = with_version(render_overlay("production"), "2")
        running.cluster.apply(updated)
        for service in services(updated):
            service["spec"]["transformer"]["containers"][0]["env"].append(
                {"name": "NIMBUSGUARD_LOG_LEVEL", "value": "warning"}
            )
        running.cluster.apply(updated)
        codes = running.cluster.wait_for_endings()
        settle(load)
        versions = dict(load.versions)

    report("rolling update", load, record_property)
    assert load.failures == {}
    assert load.sent / load.seconds >= needed(load)
    assert codes == [0, 0, 0, 0]
    assert versions.keys() == {"2"}


def test_canary_steps_promotion_and_rollback_fail_no_request(
    run_overlay: Start, record_property: pytest.RecordProperty
) -> None:
    """The patches of `nimbusguard canary` on two InferenceServices behind a splitter."""
    documents = one_replica_each(render_overlay("canary-graph"))
    (graph,) = of_kind(documents, "InferenceGraph")
    weigh(graph, 100, 0)
    running = run_overlay(documents, {SPLITTER: SPLIT})

    with constant_load(SPLITTER) as load:
        seen = {}
        for percent in (5, 25, 50):
            graph, _, canary = objects(running)
            patch_all(running, start_graph(graph, canary, "2", percent))
            settle(load)
            seen[percent] = load.versions["2"] / load.versions.total()
        graph, stable, canary = objects(running)
        first, last = promote_graph(graph, stable, canary)
        patch_all(running, [first])
        running.cluster.wait_for_endings()
        patch_all(running, [last])
        settle(load)
        promoted = dict(load.versions)
        graph, stable, canary = objects(running)
        patch_all(running, start_graph(graph, canary, "3", 25))
        # Until the old pod ends, its transformer's open connection still reaches version 2.
        running.cluster.wait_for_endings()
        settle(load)
        third = load.versions["3"]
        patch_all(running, rollback_graph(objects(running)[0]))
        settle(load)
        rolled_back = dict(load.versions)

    report("canary", load, record_property)
    assert load.failures == {}
    assert load.sent / load.seconds >= needed(load)
    assert seen == pytest.approx({5: 0.05, 25: 0.25, 50: 0.5}, abs=0.03)
    assert promoted.keys() == {"2"}
    assert third > 0
    assert rolled_back.keys() == {"2"}


SPLIT = {
    "nimbusguard-dqn-model-transformer": 100,
    "nimbusguard-dqn-model-canary-transformer": 0,
}


def one_replica_each(documents: list[Document]) -> list[Document]:
    """Four pods are enough to split between."""
    for service in services(documents):
        for component in ("predictor", "transformer"):
            service["spec"][component]["minReplicas"] = 1
    return documents


def weigh(graph: Document, stable: int, canary: int) -> None:
    """Set the weights of a graph that nothing runs for yet."""
    for step, weight in zip(graph["spec"]["nodes"]["root"]["steps"], (stable, canary), strict=True):
        step["weight"] = weight


def objects(running: Running) -> tuple[Document, Document, Document]:
    """Graph, stable and canary as they are now."""
    (graph,) = of_kind(running.documents, "InferenceGraph")
    stable, canary = services(running.documents)
    return graph, stable, canary


def patch_all(running: Running, patches: list[Patch]) -> None:
    """What the API server and the controllers do: apply, roll, weigh."""
    for patch in patches:
        index, target = next(
            (index, document)
            for index, document in enumerate(running.documents)
            if document["kind"].lower() + "s" == patch.resource
            and document["metadata"]["name"] == patch.name
        )
        running.documents[index] = jsonpatch.apply_patch(target, list(patch.operations))
    running.cluster.apply(running.documents)
    steps = objects(running)[0]["spec"]["nodes"]["root"]["steps"]
    running.network.weigh(SPLITTER, {f"{s['serviceName']}-transformer": s["weight"] for s in steps})
