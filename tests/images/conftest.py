"""Both images, built once for all the tests that ask for them."""

from __future__ import annotations

import pytest

from tests.images.toolchain import Built, base_image, build, ensure_tools, pip_mounts


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Predictor and transformer, from this working tree."""
    ensure_tools()
    directory = tmp_path_factory.mktemp("images")
    base = base_image(directory)
    mounts = pip_mounts(directory)
    return {name: build(name, base, mounts) for name in ("transformer", "predictor")}


@pytest.fixture(params=["transformer", "predictor"])
def image(request: pytest.FixtureRequest, images: dict[str, Built]) -> Built:
    """Each of the two in turn."""
    return images[request.param]
