"""Fixtures of the autoscaler's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from autoscaler.kube import ClusterAccess, KubeApi
from tests.standin.kube_api import StandIn


@pytest.fixture
async def cluster() -> AsyncIterator[StandIn]:
    """A stand-in for the API server on a free loopback port."""
    standin = StandIn()
    await standin.start()
    try:
        yield standin
    finally:
        await standin.stop()


@pytest.fixture
async def api(cluster: StandIn) -> AsyncIterator[KubeApi]:
    opened = KubeApi(ClusterAccess(server=cluster.url))
    yield opened
    await opened.aclose()
