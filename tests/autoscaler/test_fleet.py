"""The policies that are there, and whose turn it is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.arms import Arm, arm_of
from autoscaler.fleet import Entry, Fleet


def body(name: str = "web", uid: str = "u1", generation: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": uid, "generation": generation},
        "spec": {"target": {"name": name}, **spec},
    }


def test_turns_are_spread_over_the_interval_and_stay_where_they_are() -> None:
    """A thousand policies: about 67 a second, and the same second after a restart."""
    first, second = Fleet(), Fleet()
    for number in range(1_000):
        first.put(body(f"w{number}", f"u{number}"), 0.0)
        second.put(body(f"w{number}", f"u{number}"), 0.0)

    counts = []
    for second_s in range(15):
        due = first.due(second_s + 0.999)
        counts.append(len(due))
        assert [entry.uid for entry in due] == [e.uid for e in second.due(second_s + 0.999)]

    assert sum(counts) == 1_000
    assert all(40 < count < 100 for count in counts)


def test_a_turn_comes_every_interval_and_never_twice_at_once() -> None:
    """While an evaluation is under way its workload has no other."""
    fleet = Fleet()
    entry = fleet.put(body(intervalSeconds=10), 0.0)
    first = entry.next_s

    assert fleet.due(first) == [entry]
    assert fleet.due(first + 10.0) == []
    entry.busy = False
    assert fleet.due(first + 9.9) == []
    assert fleet.due(first + 10.0) == [entry]


def test_missed_turns_are_not_made_up_for() -> None:
    """After a pause of an hour there is one decision, and it knows how late it is."""
    fleet = Fleet()
    entry = fleet.put(body(), 0.0)
    turn_s = entry.next_s

    assert len(fleet.due(turn_s + 3_600.0)) == 1
    assert entry.turn_s == turn_s
    entry.busy = False
    assert fleet.due(turn_s + 3_600.0) == []
    assert entry.next_s > 3_600.0


def test_a_refused_spec_is_due_at_once_so_that_its_author_sees_why() -> None:
    """And then once a minute."""
    fleet = Fleet()
    entry = fleet.put(body(mode="auto"), 5.0)

    assert (entry.policy, entry.next_s) == (None, 5.0)
    assert entry.problem is not None
    assert "spec.mode" in entry.problem
    fleet.due(5.0)
    assert entry.next_s == 65.0


def test_a_change_is_due_at_once_and_keeps_the_memory() -> None:
    """New bounds do not begin the stabilization window anew; another target does."""
    fleet = Fleet()
    entry = fleet.put(body(), 0.0)
    memory = entry.memory

    fleet.put(body(generation=2, mode="act"), 3.0)
    assert (entry.memory is memory, entry.next_s <= 3.0, entry.generation) == (True, True, 2)

    fleet.put(body(generation=3, metrics={"workload": "other"}), 4.0)
    assert entry.memory is not memory


def test_our_own_status_changes_nothing() -> None:
    """Each write of a status comes back as a change of the object."""
    fleet = Fleet()
    entry = fleet.put(body(), 0.0)
    before = entry.next_s

    fleet.put({**body(), "status": {"action": "NO_ACTION"}}, 0.0)

    assert entry.next_s == before


def test_an_object_made_anew_begins_anew() -> None:
    """Same name, another id; a late deletion of the old one does not remove it."""
    removed: list[Entry] = []
    fleet = Fleet(removed=removed.append)
    old = fleet.put(body(uid="old"), 0.0)
    new = fleet.put(body(uid="new"), 1.0)

    fleet.remove("shop", "web", "old")
    assert (list(fleet), removed) == ([new], [])
    fleet.remove("shop", "web", "new")
    assert (len(fleet), removed) == (0, [new])
    assert old is not new


def test_memories_can_be_forgotten() -> None:
    """A new leader does not know what was asked for in the meantime."""
    fleet = Fleet()
    entry = fleet.put(body(), 0.0)
    memory = entry.memory

    fleet.forget_memories(100.0)

    assert entry.memory is not memory


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_raising_the_canary_share_takes_no_workload_from_the_canary(
    one: float, other: float
) -> None:
    """Who is in stays in."""
    low, high = sorted((one, other))

    for number in range(50):
        if arm_of(f"u{number}", low) is Arm.CANARY:
            assert arm_of(f"u{number}", high) is Arm.CANARY


def test_the_canary_gets_its_share() -> None:
    """By a hash, so about a tenth of ten thousand; none and all at the ends."""
    arms = [arm_of(f"u{number}", 0.1) for number in range(10_000)]

    assert 900 < arms.count(Arm.CANARY) < 1_100
    assert {arm_of(f"u{number}", 0.0) for number in range(100)} == {Arm.STABLE}
    assert {arm_of(f"u{number}", 1.0) for number in range(100)} == {Arm.CANARY}
