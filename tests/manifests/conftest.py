"""The overlays, rendered by the real tool."""

from __future__ import annotations

import pytest

from tests.manifests.rendering import OVERLAYS, Document, render_overlay


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Document]:
    """The objects of each overlay in turn."""
    return render_overlay(request.param)
