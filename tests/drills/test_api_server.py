"""The API server refuses, throttles, fails, forgets the watch: nothing changes, then it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.demo.deciders import OperatorProcess
from tests.drills.site import INTERVAL_S, Site, decisions, removals, until
from tests.standin.kube_api import Call, Fault

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="session")]
TOO_FEW = 1


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(live: Site) -> AsyncIterator[OperatorProcess]:
    async with live.policy(), live.operator("api") as running:
        yield running


def every_call(call: Call) -> bool:
    return call.verb != "watch"


def writes_of_scale(call: Call) -> bool:
    return (call.verb, call.resource) == ("patch", "deployments/scale")


@pytest.mark.parametrize(
    ("status", "matches", "lasting"),
    [(409, writes_of_scale, 3), (429, every_call, 3), (500, every_call, 7)],
    ids=["409", "429", "500-for-longer-than-a-leader-may-be-silent"],
)
async def test_a_failing_api_server_delays_and_breaks_nothing(
    site: Site,
    operator: OperatorProcess,
    status: int,
    matches: Callable[[Call], bool],
    lasting: int,
) -> None:
    """The workload keeps its replicas meanwhile; afterwards it gets those that it needs."""
    await until("decided", lambda: bool(site.on.cluster.status("web", "shop")), 20.0)
    site.on.cluster.faults.append(Fault(matches, status))
    began_s = time.monotonic()

    site.set_replicas(TOO_FEW)
    await asyncio.sleep(lasting * INTERVAL_S)  # how long it fails
    meanwhile = site.scalings(began_s, "api")
    site.on.cluster.faults.clear()
    await until("scaled up", lambda: site.replicas() > TOO_FEW, 20.0)

    assert meanwhile == []
    assert removals(site.scalings(began_s, "api")) == []
    assert operator.process.popen.poll() is None
    if status == 409:
        assert await operator.metric("nimbusguard_operator_scalings_total", result="conflict") > 0


def decided_by_kserve(site: Site, name: str) -> Callable[[], bool]:
    return lambda: site.source(name) == "kserve"


async def test_a_dropped_watch_misses_no_policy(site: Site, operator: OperatorProcess) -> None:
    """Neither one that comes after the break nor the one that was there."""
    began_s = time.monotonic()
    for number in range(2):
        name = f"late{number}"
        site.set_replicas(3, name)
        site.on.cluster.drop_watches()
        async with site.policy(name):
            await until("late policy decided", decided_by_kserve(site, name), 15.0)

    await decisions(operator, 2)

    assert removals(site.scalings(began_s, "api")) == []
