"""A clock that is set, a leader that is killed or hangs, two operators at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from autoscaler.experience import ExperienceStore, Range
from tests.demo.deciders import OperatorProcess
from tests.drills.site import INTERVAL_S, Site, decisions, removals, until

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="session")]
LEASE_S = 15.0
DAY_S = 86_400.0
MOST_S = 10 * INTERVAL_S
"""From a decision to its outcome; nowhere near a day, on however busy a machine."""


async def leads(operator: OperatorProcess) -> bool:
    return await operator.metric("nimbusguard_operator_is_leader") == 1.0


async def test_a_clock_that_is_set_changes_no_decision(site: Site, tmp_path: Path) -> None:
    """A day forward and two back; no outcome is recorded over the jump."""
    clock, path = tmp_path / "clock", tmp_path / "experience.db"
    clock.write_text("0")
    environ = {"DRILL_CLOCK": str(clock), "AUTOSCALER_EXPERIENCE_STORE": str(path)}
    program = "tests.drills.jumping_operator"

    async with (
        site.policy(),
        site.operator("clock", program=program, **environ) as operator,
    ):
        await until("KServe decides", lambda: site.source() == "kserve", 20.0)
        began_s = time.monotonic()
        for jump_s in (DAY_S, -DAY_S):
            clock.write_text(str(jump_s))
            await decisions(operator, 3)
            assert await leads(operator)

    assert removals(site.scalings(began_s, "clock")) == []
    with ExperienceStore(path) as store:
        rows = list(store.read(Range(1, 2**62)))
    outcomes = [(decision, outcome) for _, decision, outcome in rows if outcome is not None]
    assert len(outcomes) >= 4
    for decision, outcome in outcomes:
        assert 0.0 < outcome.observed_at_s - decision.decided_at_s < MOST_S


async def test_a_killed_leader_is_replaced_and_nothing_is_removed(site: Site) -> None:
    """Kill -9: until the lease ends nobody scales, then the other does, from an empty memory."""
    lease = {"AUTOSCALER_LEASE": "shop/pair"}
    async with (
        site.policy(),
        site.operator("first", **lease) as first,
    ):
        await until("the first leads", lambda: leads(first), 10.0)
        async with site.operator("second", **lease) as second:
            await until("decided", lambda: site.source() == "kserve", 20.0)
            assert not await leads(second)
            first.process.popen.kill()
            killed_s = time.monotonic()
            took_s = await until("the second leads", lambda: leads(second), LEASE_S + 10.0)
            site.set_replicas(1)
            await until("it scales", lambda: bool(site.scalings(killed_s, "second")), 10.0)
            after = site.scalings(killed_s)

    assert took_s < LEASE_S + 5.0
    assert {one.caller for one in after} == {"second"}
    assert removals(after) == []


async def test_of_two_operators_one_writes_also_when_it_wakes_up_late(site: Site) -> None:
    """One that stood still past its lease writes nothing more: the other leads by then."""
    lease = {"AUTOSCALER_LEASE": "shop/two"}
    async with (
        site.policy(),
        site.operator("sleeper", **lease) as sleeper,
    ):
        await until("the sleeper leads", lambda: leads(sleeper), 10.0)
        async with site.operator("waking", **lease) as waking:
            site.set_replicas(1)
            await until("scaled", lambda: site.replicas() > 1, 20.0)
            assert {one.caller for one in site.scalings(0.0, "sleeper", "waking")} == {"sleeper"}
            with sleeper.process.stopped():
                await until("the other leads", lambda: leads(waking), LEASE_S + 10.0)
                woken_s = time.monotonic()
            site.set_replicas(1)
            await until("it scales", lambda: bool(site.scalings(woken_s, "waking")), 10.0)
            await decisions(waking, 2)
            after = site.scalings(woken_s)
            assert not await leads(sleeper)

    assert {one.caller for one in after} == {"waking"}
    assert removals(after) == []
