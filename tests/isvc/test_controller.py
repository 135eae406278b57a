"""What the stand-in for KServe's controller makes of an overlay; no container is started."""

from __future__ import annotations

from tests.isvc.controller import pod_templates, service_specs
from tests.isvc.layout import OPERATORS_NAME
from tests.manifests.rendering import render_overlay, services


def test_the_transformer_is_told_its_predictor_and_nothing_that_it_said_itself() -> None:
    """The injected name would be the InferenceService's; ours is the model's and stays."""
    (service,) = services(render_overlay("local"))
    _, transformer = pod_templates(service)

    arguments = transformer.spec["containers"][0]["args"]

    assert arguments[-2:] == [
        "--predictor_host",
        "nimbusguard-dqn-model-predictor.nimbusguard-serving",
    ]
    assert [a for a in arguments if a.startswith("--model_name")] == [
        "--model_name=nimbusguard-dqn"
    ]


def test_the_storage_uri_is_rewritten_as_the_webhook_does() -> None:
    """The container sees /mnt/models and never the address; the pod has the version mounted."""
    (service,) = services(render_overlay("production"))
    predictor, transformer = pod_templates(service)

    variables = {entry["name"]: entry["value"] for entry in predictor.spec["containers"][0]["env"]}

    assert variables["STORAGE_URI"] == "/mnt/models"
    assert predictor.storage_uri == "s3://nimbusguard-models/nimbusguard-dqn/1"
    assert transformer.storage_uri is None


def test_every_component_and_the_alias_have_a_name() -> None:
    """Port 80 goes to HTTP, and the gRPC port keeps its number."""
    found = {
        host: service
        for service in service_specs(render_overlay("local"))
        for host in service.hosts
    }

    assert found[OPERATORS_NAME].label == "isvc.nimbusguard-dqn-model-transformer"
    assert found["nimbusguard-dqn-model-predictor.nimbusguard-serving"].ports == (
        (80, 8080),
        (8081, 8081),
    )


def test_a_collocated_pod_is_reached_through_its_transformer() -> None:
    """The Service points at the ports of transformer-container because it exists."""
    by_name = {service.name: service for service in service_specs(render_overlay("collocated"))}

    assert by_name["nimbusguard-dqn-model-predictor"].ports == ((80, 8080), (8081, 8081))
    assert by_name["nimbusguard-dqn-model"].label == "isvc.nimbusguard-dqn-model-predictor"
