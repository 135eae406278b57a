"""One live loop for all drills, started once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.drills.site import REPLICAS, Site
from tests.drills.site import site as started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with started(tmp_path_factory.mktemp("drills")) as running:
        yield running


@pytest.fixture
def site(live: Site) -> Iterator[Site]:
    """The loop, whole again before and after each drill."""
    live.set_replicas(REPLICAS)
    yield live
    live.kserve.heal()
    live.prometheus.heal()
    live.on.cluster.faults.clear()
