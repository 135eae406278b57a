"""Load that rises tenfold within an interval, that ends, and pods that never get ready.

Beside the operator the HPA's algorithm scales a second workload, which gets every request at the
same moment. Both serve ten requests a second with a pod.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.demo.deciders import Terms
from tests.demo.rounds import HPA, NIMBUSGUARD, Round, direction_changes, play
from tests.demo.stage import Lane
from tests.demo.traffic import Traffic
from tests.drills.site import CHANCE, RATE, Site

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="session")]
TERMS = Terms(interval_s=3.0)
"""A fifth of 15 s; ten times the load within an interval is then within 3 s."""
FIRST = 2
LOW, HIGH = 4.0, 40.0
"""Ten requests in an interval are the fewest that the guard learns the cost of one from."""
QUIET_S, RAMP_S, BUSY_S, SILENT_S = 9.0, 3.0, 16.0, 41.0
WINDOW_S = 15.0
"""Five intervals: longer than the quiet before the surge, short enough to see its end followed."""


def surge(since_s: float) -> float:
    """Requests/s: little, ten times as much, nothing."""
    if since_s < QUIET_S:
        return LOW
    if since_s < QUIET_S + RAMP_S + BUSY_S:
        return min(HIGH, LOW + (HIGH - LOW) * (since_s - QUIET_S) / RAMP_S)
    return 0.0


def assert_no_more_violations(
    rounds: dict[str, Round], record_property: pytest.RecordProperty
) -> None:
    ours, theirs = rounds[NIMBUSGUARD], rounds[HPA]
    told = f"{ours.violations} against {theirs.violations} of {len(ours.requests)}"
    record_property("violations", told)
    assert ours.violations <= theirs.violations + CHANCE * len(ours.requests), told


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lanes(live: Site) -> AsyncIterator[dict[str, Lane]]:
    """The machine to themselves: without the load of the other drills and most of its pods."""
    live.steady.rate = 0.0
    live.set_replicas(1)
    for lane in (live.lane, live.rival):
        await live.settled(lane)
    ours = {
        NIMBUSGUARD: await live.on.lane("surge", FIRST),
        HPA: await live.on.lane("surge-hpa", FIRST),
    }
    yield ours
    for lane in ours.values():
        live.set_replicas(1, lane.workload)
        await live.settled(lane)
    live.steady.rate = RATE


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def surged(live: Site, lanes: dict[str, Lane]) -> dict[str, Round]:
    """The whole story once."""
    seconds = QUIET_S + RAMP_S + BUSY_S + SILENT_S
    traffic = Traffic(name="surge", peak_rate=HIGH, seconds=seconds, rate=surge)
    async with live.operator("surge") as by:
        return await play(live.on, traffic, lanes, TERMS, seed=7, by=by, window_s=WINDOW_S)


def during(one: Round, begin_s: float, end_s: float) -> list[int]:
    """Replicas wanted in a part of the run."""
    return [moment.wanted for moment in one.moments if begin_s <= moment.since_s < end_s]


async def test_a_tenfold_load_is_followed_with_no_more_violations_than_the_hpa(
    surged: dict[str, Round], record_property: pytest.RecordProperty
) -> None:
    """Four pods or more for forty requests a second, within a few intervals."""
    ours = surged[NIMBUSGUARD]

    busy_s = QUIET_S + RAMP_S
    assert max(during(ours, busy_s, busy_s + 3 * TERMS.interval_s)) >= 4
    assert max(ours.wanted) <= TERMS.most
    # Up with the load and down after it is one turn; a correction on the way makes two more.
    assert direction_changes(ours.wanted) <= 3
    assert_no_more_violations(surged, record_property)


async def test_a_load_that_ends_is_followed_down_to_the_least_and_stays_there(
    surged: dict[str, Round],
) -> None:
    """Monotone, and without traffic neither up nor down again."""
    silent = during(surged[NIMBUSGUARD], QUIET_S + RAMP_S + BUSY_S + 3.0, 1e9)

    assert max(silent) > silent[-1] == TERMS.least
    assert direction_changes(silent) == 0


async def test_pods_that_never_get_ready_are_added_to_no_end_but_the_bound(
    live: Site, lanes: dict[str, Lane], record_property: pytest.RecordProperty
) -> None:
    """None is removed while the load lasts; when they are ready at last, it is served."""
    for lane in lanes.values():
        live.set_replicas(FIRST, lane.workload)
        await live.settled(lane)
        lane.kubelet.gets_ready = False
    traffic = Traffic(
        name="stuck", peak_rate=HIGH, seconds=20.0, rate=lambda s: LOW if s < 3 else HIGH
    )

    async with live.operator("stuck") as by:
        rounds = await play(live.on, traffic, lanes, TERMS, seed=9, by=by)
        stuck = [lane.kubelet.running for lane in lanes.values()]
        for lane in lanes.values():
            lane.kubelet.gets_ready = True
        await live.settled(lanes[NIMBUSGUARD])

    wanted = rounds[NIMBUSGUARD].wanted
    assert stuck == [FIRST, FIRST]
    assert wanted == sorted(wanted)
    assert FIRST < wanted[-1] <= TERMS.most
    assert_no_more_violations(rounds, record_property)
    assert lanes[NIMBUSGUARD].kubelet.running == wanted[-1]
