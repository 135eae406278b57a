"""Every object is one that the API server would take whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.manifests.rendering import (
    MANIFESTS,
    Document,
    changed,
    of_kind,
    render_overlay,
    render_with,
    services,
)
from tests.manifests.schemas import problems

OPTIONAL = ("autoscaling-hpa", "autoscaling-keda", "pod-monitor", "network-policy")


def test_every_object_of_an_overlay_fits_its_schema(overlay: list[Document]) -> None:
    """No unknown field, no wrong type, nothing missing."""
    assert {
        f"{document['kind']}/{document['metadata']['name']}": found
        for document in overlay
        if (found := problems(document))
    } == {}


@pytest.mark.parametrize("component", OPTIONAL)
def test_a_component_fits_its_schema_on_top_of_any_overlay(tmp_path: Path, component: str) -> None:
    """Components that no overlay carries are checked on the local one."""
    documents = render_with(tmp_path, component)

    assert [found for document in documents if (found := problems(document))] == []


def test_an_unknown_field_is_found_in_a_custom_resource() -> None:
    """The API server would prune it without a word."""
    (service,) = services(render_overlay("local"))
    service["spec"]["predictor"]["minReplica"] = 2

    assert any("minReplica" in problem for problem in problems(service))


def test_a_wrong_type_deep_in_a_custom_resource_is_found() -> None:
    """A port given as text where a number belongs."""
    (service,) = services(render_overlay("local"))
    service["spec"]["predictor"]["containers"][0]["ports"][0]["containerPort"] = "8080"

    assert any("containerPort" in problem for problem in problems(service))


def test_an_unknown_field_is_found_in_a_core_object() -> None:
    """Kubernetes' own schemas are read strictly as well."""
    (alias,) = of_kind(changed(render_overlay("local")), "Service")
    alias["spec"]["ports"][0]["targetport"] = 8080

    assert problems(alias)


def test_every_component_is_rendered_by_some_test() -> None:
    """A component that nothing uses would never be checked."""
    used = {
        line.rsplit("/", 1)[-1].strip()
        for path in (MANIFESTS / "overlays").rglob("kustomization.yaml")
        for line in path.read_text().splitlines()
        if "components/" in line
    }

    assert {path.name for path in (MANIFESTS / "components").iterdir()} == used | set(OPTIONAL)
