"""The lock file is of what pyproject.toml asks for: nothing missing, nothing out of range."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.images.toolchain import ROOT


def locked() -> dict[str, str]:
    """Canonical names to versions."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(name): version for name, version in (li.split("==") for li in lines)}


def asked(extras: dict[str, list[str]], texts: list[str]) -> Iterator[Requirement]:
    """Requirements with those of our own extras in place of their names."""
    for requirement in map(Requirement, texts):
        if requirement.name == "nimbusguard":
            for extra in requirement.extras:
                yield from asked(extras, extras[extra])
        else:
            yield requirement


def test_every_requirement_is_locked_within_its_range() -> None:
    """An image or a checkout installs with the lock as constraint: what it lacks would float."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    versions = locked()

    found = list(asked(extras, [*project["dependencies"], *extras["dev"]]))

    assert len(found) > 30
    unmet = {
        str(requirement): versions.get(canonicalize_name(requirement.name))
        for requirement in found
        if not requirement.specifier.contains(
            versions.get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
    }
    assert unmet == {}
