"""The names that others script against, and the flags that the servers really take."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from functools import cache

from tests.manifests.rendering import (
    MANIFESTS,
    Document,
    containers,
    environment,
    flags,
    of_kind,
    render_overlay,
    services,
)

LIST_FLAGS = """
import sys
sys.argv = ["flags"]
from kserve.model_server import parser
print("\\n".join(flag for action in parser._actions for flag in action.option_strings))
"""


def test_the_names_are_those_that_operators_know(overlay: list[Document]) -> None:
    """InferenceService, namespace and model are fixed by the design."""
    first = services(overlay)[0]

    assert first["metadata"]["name"] == "nimbusguard-dqn-model"
    assert {
        document["metadata"]["namespace"] for document in overlay if document["kind"] != "Namespace"
    } == {"nimbusguard-serving"}
    assert [document["metadata"]["name"] for document in of_kind(overlay, "Namespace")] == [
        "nimbusguard-serving"
    ]


def test_the_operators_url_resolves_to_the_transformer() -> None:
    """Port 80 of the alias is the HTTP port of the transformer's pods."""
    (alias,) = of_kind(render_overlay("local"), "Service")

    assert alias["spec"]["selector"] == {"app": "isvc.nimbusguard-dqn-model-transformer"}
    assert {port["port"]: port["targetPort"] for port in alias["spec"]["ports"]} == {
        80: 8080,
        8081: 8081,
    }


def test_the_images_carry_the_version_of_the_project(overlay: list[Document]) -> None:
    """A release that forgets the manifests is noticed here."""
    project = tomllib.loads((MANIFESTS.parent / "pyproject.toml").read_text())["project"]
    images = [
        container["image"]
        for service in services(overlay)
        for _, container in containers(service)
        if "image" in container
    ]

    assert images
    assert {image.rpartition(":")[2] for image in images} == {project["version"]}


@cache
def known_flags() -> set[str]:
    """What the SDK's parser declares, asked in a process of its own: importing it parses argv."""
    listed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIST_FLAGS],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(listed.stdout.split())


def test_every_argument_is_one_that_the_server_takes(overlay: list[Document]) -> None:
    """The SDK ignores flags that it does not know, so a misspelt one would do nothing."""
    given = {
        flag
        for service in services(overlay)
        for _, container in containers(service)
        for flag in flags(container)
    }

    assert given - known_flags() == set()


class Asked(dict[str, str]):
    """An empty environment that notes which keys are looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_asked: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Note the key; nothing is set."""
        self.keys_asked.add(key)
        return default


def settings_of(component: str) -> set[str]:
    """The variables that a component's own settings read."""
    from predictor.settings import predictor_settings
    from serving.settings import server_settings
    from transformer.settings import transformer_settings

    asked = Asked()
    server_settings(asked)
    (predictor_settings if component == "predictor" else transformer_settings)(asked)
    return asked.keys_asked


def test_every_variable_is_one_that_the_code_reads(overlay: list[Document]) -> None:
    """A misspelt one would be a silent default; STORAGE_URI alone is KServe's."""
    for service in services(overlay):
        for name, container in containers(service):
            collocated = container.get("name") == "transformer-container"
            component = "transformer" if collocated else name
            assert environment(container).keys() <= settings_of(component) | {"STORAGE_URI"}
