"""One live loop for all drills, started once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.drills.site import REPLICAS, Site
from tests.drills.site import site as started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with started(tmp_path_factory.mktemp("drills")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def site(live: Site, record_property: pytest.RecordProperty) -> AsyncIterator[Site]:
    """The loop, whole again before and after each drill, in which it was no worse than the HPA."""
    live.set_replicas(REPLICAS)
    for lane in (live.lane, live.rival):
        await live.settled(lane)
    began_s = time.monotonic()
    yield live
    live.kserve.heal()
    live.prometheus.heal()
    live.on.cluster.faults.clear()
    beside = live.beside_the_hpa(began_s)
    record_property("beside the HPA", str(beside))
    beside.assert_no_worse()
