"""What a roll-out changes in the overlays that ship, patch by patch."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.canary.plan import (
    Kind,
    Patch,
    Rollout,
    graph_state,
    promote_graph,
    promote_traffic,
    rollback_graph,
    rollback_traffic,
    start_graph,
    start_traffic,
    traffic_state,
)
from nimbusguard.contract.errors import InvalidRequest, NotFound
from tests.manifests.rendering import Document, of_kind, render_overlay, services

PERCENT = "canaryTrafficPercent"


def knative() -> Document:
    """The InferenceService of `canary-traffic` before its canary: version 1 rolled out."""
    (service,) = services(render_overlay("canary-traffic"))
    del service["spec"]["predictor"][PERCENT]
    service["spec"]["predictor"]["containers"][0]["env"][0]["value"] = "s3://m/nimbusguard-dqn/1"
    return service


def split() -> tuple[Document, Document, Document]:
    """Graph, stable and canary of `canary-graph`, nothing going to the canary yet."""
    documents = render_overlay("canary-graph")
    (graph,) = of_kind(documents, "InferenceGraph")
    stable, canary = services(documents)
    for step, weight in zip(graph["spec"]["nodes"]["root"]["steps"], (100, 0), strict=True):
        step["weight"] = weight
    return graph, stable, canary


def applied(patches: list[Patch], *objects: Document) -> list[Any]:
    """The objects after the patches, as the API server would apply them."""
    after = {(o["kind"].lower() + "s", o["metadata"]["name"]): copy.deepcopy(o) for o in objects}
    for patch in patches:
        key = (patch.resource, patch.name)
        after[key] = jsonpatch.apply_patch(after[key], list(patch.operations))
    return list(after.values())


def test_a_traffic_canary_starts_with_its_version_and_its_share() -> None:
    """One patch: the new version's address and the percentage, or neither."""
    before = knative()

    (patch,) = start_traffic(before, "2", 10)
    (after,) = applied([patch], before)

    assert after["spec"]["predictor"][PERCENT] == 10
    assert traffic_state(after) == Rollout(
        kind=Kind.TRAFFIC, stable_version=None, canary_version="2", percent=10
    )
    assert after["spec"]["transformer"] == before["spec"]["transformer"]


def test_a_step_changes_the_share_alone() -> None:
    """The revision stays; only the split moves."""
    (running,) = applied(start_traffic(knative(), "2", 10), knative())

    (patch,) = start_traffic(running, "2", 25)

    assert [operation["op"] for operation in patch.operations] == ["test", "replace"]
    assert patch.operations[-1]["value"] == 25


def test_promotion_takes_the_percentage_away_and_rollback_sets_it_to_zero() -> None:
    """KServe's meaning of the field."""
    (running,) = applied(start_traffic(knative(), "2", 50), knative())

    (promoted,) = applied(promote_traffic(running), running)
    (rolled_back,) = applied(rollback_traffic(running), running)

    assert PERCENT not in promoted["spec"]["predictor"]
    assert rolled_back["spec"]["predictor"][PERCENT] == 0


def test_a_version_that_was_rolled_back_is_not_promoted_by_mistake() -> None:
    """Taking the 0 away would send it every request."""
    (running,) = applied(start_traffic(knative(), "2", 50), knative())
    (rolled_back,) = applied(rollback_traffic(running), running)

    with pytest.raises(InvalidRequest, match="no canary is under way"):
        promote_traffic(rolled_back)


def test_a_graph_canary_gets_its_version_before_its_share() -> None:
    """A step whose pods are not there yet would answer with errors."""
    graph, stable, canary = split()

    patches = start_graph(graph, canary, "3", 10)
    after = applied(patches, graph, stable, canary)

    assert [patch.resource for patch in patches] == ["inferenceservices", "inferencegraphs"]
    assert graph_state(*after) == Rollout(
        kind=Kind.GRAPH, stable_version="1", canary_version="3", percent=10
    )


def test_a_graph_canary_is_promoted_into_the_stable_service() -> None:
    """The stable InferenceService takes the version over, then the weights go back."""
    graph, stable, canary = split()
    objects = applied(start_graph(graph, canary, "3", 50), graph, stable, canary)

    patches = promote_graph(*objects)

    assert [patch.name for patch in patches] == ["nimbusguard-dqn-model", "nimbusguard-dqn-graph"]
    assert graph_state(*applied(patches, *objects)) == Rollout(
        kind=Kind.GRAPH, stable_version="3", canary_version=None, percent=0
    )


def test_a_graph_canary_is_rolled_back_by_its_weight() -> None:
    """The stable InferenceService is not touched."""
    graph, stable, canary = split()
    objects = applied(start_graph(graph, canary, "3", 50), graph, stable, canary)

    (patch,) = rollback_graph(objects[0])

    assert patch.resource == "inferencegraphs"
    assert graph_state(*applied([patch], *objects)).stable_version == "1"


def test_a_patch_computed_from_an_older_object_is_refused_whole() -> None:
    """Somebody else moved the share meanwhile."""
    (running,) = applied(start_traffic(knative(), "2", 10), knative())
    patches = start_traffic(running, "2", 25)
    running["spec"]["predictor"][PERCENT] = 50

    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        applied(patches, running)


def test_the_share_of_a_predictor_by_model_format_is_found_too() -> None:
    """`model.storageUri` instead of a variable."""
    (service,) = services(render_overlay("runtime"))
    service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "Knative"

    (patch,) = start_traffic(service, "2", 10)

    assert patch.operations[0]["path"] == "/spec/predictor/model/storageUri"


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [("local", "expected deploymentMode Knative"), ("knative", "ends in a version")],
)
def test_what_cannot_carry_a_canary_is_refused_with_the_reason(overlay: str, expected: str) -> None:
    """Standard mode ignores the field; a model inside the image has no address."""
    (service,) = services(render_overlay(overlay))

    with pytest.raises(InvalidRequest, match=expected):
        start_traffic(service, "2", 10)


@pytest.mark.parametrize(("version", "percent"), [("latest", 10), ("0", 10), ("2", 0), ("2", 101)])
def test_a_wrong_version_or_percentage_is_refused(version: str, percent: int) -> None:
    """Versions are numbers from 1 on, shares from 1 to 100."""
    with pytest.raises(InvalidRequest):
        start_traffic(knative(), version, percent)


def test_a_graph_without_the_two_steps_is_refused() -> None:
    """Which step is the canary cannot be guessed."""
    graph, _, canary = split()
    graph["spec"]["nodes"]["root"]["steps"][1]["name"] = "other"

    with pytest.raises(NotFound, match="stable and canary"):
        start_graph(graph, canary, "3", 10)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_the_weights_always_make_a_hundred(shares: list[int]) -> None:
    """However often the share is moved."""
    objects = split()
    for share in shares:
        objects = tuple(applied(start_graph(objects[0], objects[2], "3", share), *objects))

    steps = objects[0]["spec"]["nodes"]["root"]["steps"]
    assert [step["weight"] for step in steps] == [100 - shares[-1], shares[-1]]
