"""Fixtures of the live tests: one stack for all of them, because it takes seconds to warm up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.stack import LiveStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """Two pods of `web` and one of `web-admin`, watched by Prometheus, without load."""
    with LiveStack(folder=tmp_path_factory.mktemp("live")) as live:
        live.scale("web", 2)
        live.scale("web-admin", 1)
        yield live
