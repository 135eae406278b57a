"""The policies that are there now, what is remembered of each, and whose turn it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from autoscaler.judgement import Look
from autoscaler.loop import Memory, remember_nothing
from autoscaler.policy_spec import Mode, ScalingPolicy, policy_of
from autoscaler.writers import Place, place_of
from nimbusguard.contract.errors import InvalidRequest

_HASH_SPAN: Final = 2**64


@dataclass(slots=True, kw_only=True)
class Entry:
    """One policy; changed by the fleet and by the evaluation whose turn it is."""

    namespace: str
    name: str
    uid: str
    generation: int
    policy: ScalingPolicy | None
    """None while the spec is refused."""
    problem: str | None
    """Why it is refused."""
    next_s: float
    """When it is due."""
    memory: Memory
    look: Look | None = None
    """The last decision, until its outcome is known."""
    status: dict[str, Any] = field(default_factory=dict)
    """What was last written to the object."""
    status_s: float = float("-inf")
    """When that was."""
    busy: bool = False
    """An evaluation is under way."""
    turn_s: float = 0.0
    """When the turn of the last evaluation was; it begins at that moment or later."""


class Fleet:
    """All policies, by namespace and name."""

    def __init__(self, removed: Callable[[Entry], None] = lambda entry: None) -> None:  # noqa: ARG005
        """`removed` hears of every entry that is taken out or gets another target."""
        self._removed = removed
        self._entries: dict[tuple[str, str], Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return self._entries.get((entry.namespace, entry.name)) is entry

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def put(self, body: Mapping[str, Any], now_s: float) -> Entry:
        """Take an object in, or its change.

        Memory is kept while the target stays the same, so that a change of bounds does not begin
        the stabilization window anew. Without a change of the spec nothing else happens.
        """
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        policy, problem = _read(body)
        entry = self._entries.get(key)
        if entry is None or entry.uid != metadata["uid"]:
            entry = Entry(
                namespace=key[0],
                name=key[1],
                uid=metadata["uid"],
                generation=metadata.get("generation", 0),
                policy=policy,
                problem=problem,
                next_s=now_s + _first_wait_s(metadata["uid"], policy),
                memory=remember_nothing(now_s),
                status=dict(body.get("status") or {}),
            )
            self._entries[key] = entry
            return entry
        if _workload(entry.policy) != _workload(policy):
            self._removed(entry)
            entry.memory, entry.look = remember_nothing(now_s), None
        if entry.policy != policy or entry.problem != problem:
            # Shown at once: whoever changed the object is looking at it.
            entry.next_s = min(entry.next_s, now_s)
        entry.policy, entry.problem = policy, problem
        entry.generation = metadata.get("generation", 0)
        return entry

    def acting(self) -> dict[Place, ScalingPolicy]:
        """Which policy may scale a target: of several the one that is oldest.

        A paused one counts: a younger one beside it would undo the pause.
        """
        found: dict[Place, ScalingPolicy] = {}
        for entry in self._entries.values():
            policy = entry.policy
            if policy is None or policy.spec.mode is not Mode.ACT:
                continue
            other = found.setdefault(place_of(policy), policy)
            if (policy.created, policy.name) < (other.created, other.name):
                found[place_of(policy)] = policy
        return found

    def remove(self, namespace: str, name: str, uid: str) -> None:
        """Forget an object that was deleted, unless another was made in its place since."""
        entry = self._entries.get((namespace, name))
        if entry is not None and entry.uid == uid:
            del self._entries[namespace, name]
            self._removed(entry)

    def forget_memories(self, now_s: float) -> None:
        """Begin anew with every workload: somebody else decided in the meantime."""
        for entry in self:
            entry.memory, entry.look = remember_nothing(now_s), None

    def due(self, now_s: float) -> list[Entry]:
        """Whose turn it is; each is marked busy and due again one interval later.

        Turns that were missed are not made up for: a decision about the past helps nobody.
        """
        found = [entry for entry in self if entry.next_s <= now_s and not entry.busy]
        for entry in found:
            entry.busy = True
            entry.turn_s = entry.next_s
            interval_s = entry.policy.spec.interval_s if entry.policy else 60.0
            missed = int((now_s - entry.turn_s) // interval_s)
            entry.next_s += interval_s * (missed + 1)
        return found


def _read(body: Mapping[str, Any]) -> tuple[ScalingPolicy | None, str | None]:
    try:
        return policy_of(body), None
    except InvalidRequest as exc:
        return None, str(exc)


def _workload(policy: ScalingPolicy | None) -> object:
    return policy and (policy.spec.target, policy.workload)


def _first_wait_s(uid: str, policy: ScalingPolicy | None) -> float:
    """A place in the interval by the object's id.

    A thousand policies are then no thousand at once, and each has its turn at the same place.
    """
    if policy is None:
        return 0.0
    digest = hashlib.sha256(uid.encode()).digest()
    return policy.spec.interval_s * int.from_bytes(digest[:8], "big") / _HASH_SPAN
