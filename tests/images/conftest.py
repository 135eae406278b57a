"""Both images, built once for all the tests that ask for them."""

from __future__ import annotations

import pytest

from tests.images.toolchain import Built, build_all


@pytest.fixture(scope="session")
def images() -> dict[str, Built]:
    """Predictor and transformer, from this working tree."""
    return build_all()


@pytest.fixture(params=["transformer", "predictor"])
def image(request: pytest.FixtureRequest, images: dict[str, Built]) -> Built:
    """Each of the two in turn."""
    return images[request.param]
