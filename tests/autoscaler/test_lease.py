"""Leader election: at most one leads, and always somebody soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from autoscaler.kube import KubeApi
from autoscaler.lease import Election, LeaseSettings
from nimbusguard.contract.errors import InvalidRequest, Unavailable
from tests.autoscaler.harness import Clock
from tests.standin.kube_api import Fault, StandIn


class Candidates:
    """Several candidates before one API server, on clocks of their own."""

    def __init__(self, api: KubeApi, cluster: StandIn) -> None:
        self.cluster = cluster
        self.clocks = {"a": Clock(), "b": Clock(5_000.0)}
        self.by_name = {
            name: Election(
                LeaseSettings(namespace="nimbusguard", name="operator", identity=name),
                api,
                clock=clock,
                now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            )
            for name, clock in self.clocks.items()
        }

    def pass_time(self, seconds: float) -> None:
        for clock in self.clocks.values():
            clock.now += seconds

    async def step(self, *names: str) -> list[str]:
        """Let candidates step; who leads afterwards."""
        for name in names:
            await self.by_name[name].step()
        return [name for name, election in self.by_name.items() if election.is_leader]

    @property
    def spec(self) -> dict[str, object]:
        lease = self.cluster.objects["coordination.k8s.io", "leases"]["nimbusguard", "operator"]
        found: dict[str, object] = lease["spec"]
        return found


@pytest.fixture
def candidates(api: KubeApi, cluster: StandIn) -> Iterator[Candidates]:
    return Candidates(api, cluster)


async def test_the_first_makes_the_lease_and_leads(candidates: Candidates) -> None:
    """The second waits."""
    assert await candidates.step("a", "b") == ["a"]
    assert candidates.spec["holderIdentity"] == "a"
    assert candidates.spec["leaseDurationSeconds"] == 15


async def test_a_leader_that_renews_stays(candidates: Candidates) -> None:
    """For as long as it renews, on whatever clock the other looks."""
    await candidates.step("a", "b")

    for _ in range(30):
        candidates.pass_time(2.0)
        assert await candidates.step("a", "b") == ["a"]
    assert candidates.spec["leaseTransitions"] == 0


async def test_a_leader_that_died_is_replaced_after_the_lease_and_not_before(
    candidates: Candidates,
) -> None:
    """15 s after the other saw the last renewal."""
    await candidates.step("a", "b")

    candidates.pass_time(14.0)
    assert await candidates.step("b") == []
    candidates.pass_time(1.0)
    assert await candidates.step("b") == ["b"]
    assert candidates.spec["leaseTransitions"] == 1


async def test_a_leader_that_cannot_renew_steps_down_before_another_may_lead(
    candidates: Candidates,
) -> None:
    """Two never lead at once, also while the API server is away."""
    await candidates.step("a", "b")
    candidates.cluster.faults.append(Fault(lambda call: True, 500))

    candidates.pass_time(9.0)
    with pytest.raises(Unavailable):
        await candidates.step("a")
    assert candidates.by_name["a"].is_leader
    candidates.pass_time(1.0)
    assert not candidates.by_name["a"].is_leader
    candidates.cluster.faults.clear()
    assert await candidates.step("b") == []
    candidates.pass_time(5.0)
    assert await candidates.step("b", "a") == ["b"]


async def test_a_leader_that_was_away_does_not_come_back_as_one(candidates: Candidates) -> None:
    """A suspended process wakes up: it has lost the lease and sees so by its own clock."""
    await candidates.step("a", "b")
    candidates.pass_time(20.0)
    assert not candidates.by_name["a"].is_leader

    assert await candidates.step("b", "a") == ["b"]


async def test_of_two_that_are_equally_fast_one_leads(candidates: Candidates) -> None:
    """The API server refuses the second write."""
    await candidates.step("a", "b")
    candidates.pass_time(20.0)
    await candidates.by_name["b"].step()
    fresh = candidates.by_name["a"]

    await fresh.step()

    assert [name for name, one in candidates.by_name.items() if one.is_leader] == ["b"]


async def test_a_leader_that_resigns_leaves_the_lease_to_the_next(candidates: Candidates) -> None:
    """A rolling update costs no interval."""
    await candidates.step("a", "b")

    await candidates.by_name["a"].resign()
    await candidates.by_name["b"].resign()  # it is not its own to give

    assert candidates.spec["holderIdentity"] == ""
    assert await candidates.step("b") == ["b"]


async def test_a_lease_that_somebody_else_holds_is_not_given_away(candidates: Candidates) -> None:
    """It changed hands while this one still believed to lead."""
    await candidates.step("a")
    candidates.spec["holderIdentity"] = "b"

    await candidates.by_name["a"].resign()

    assert candidates.spec["holderIdentity"] == "b"


async def test_a_lost_race_for_the_first_lease_is_no_error(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found none, both made one."""
    await candidates.step("a")
    candidates.cluster.faults.append(Fault(lambda call: call.verb == "get", 404))

    assert await candidates.step("b") == ["a"]


async def test_a_write_that_came_too_late_does_not_lead(candidates: Candidates) -> None:
    """The lease changed between reading and writing."""
    await candidates.step("a")
    candidates.cluster.faults.append(Fault(lambda call: call.verb == "patch", 409))

    assert await candidates.step("a") == []


def test_a_leader_must_step_down_before_its_lease_ends() -> None:
    """Settings that would allow two leaders are refused."""
    with pytest.raises(InvalidRequest, match="renew_deadline_s: expected"):
        LeaseSettings(namespace="n", name="x", identity="a", duration_s=10.0)
