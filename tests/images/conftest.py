"""All images, built once for all the tests that ask for them."""

from __future__ import annotations

import pytest

from tests.images.toolchain import NAMES, Built, build_all


@pytest.fixture(scope="session")
def images() -> dict[str, Built]:
    """Every image, from this working tree."""
    return build_all()


@pytest.fixture(params=NAMES)
def image(request: pytest.FixtureRequest, images: dict[str, Built]) -> Built:
    """Each in turn."""
    return images[request.param]
