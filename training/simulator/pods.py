"""The pods of every lane: pending, starting, warming, ready, killed, gone.

Pods stand in a row in order of creation; the youngest are removed first, as a ReplicaSet does with
pods that are not ready or were created last. Times are whole seconds of the lanes' common clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.simulator.draws import Purpose, triangular, uniform

NEVER: Final = np.int32(2**30)
_MAX_BACKOFF_S: Final = 300.0
# A pod draws by slot and creation time; more slots than this never exist.
_SLOTS: Final = 1024


class Transitions(NamedTuple):
    """How the ready pods change within an interval of T seconds."""

    speed: NDArray[np.float32]
    """Added speed at the start of each second (T, N); 1 is a warm pod of mean speed."""
    ready: NDArray[np.float32]
    """Added ready pods at the start of each second (T, N)."""


class Exposure(NamedTuple):
    """What those live pods of each lane (N,) that have been scraped twice did in a span of time."""

    serving_s: NDArray[np.float64]
    """Pod-seconds that they were ready."""
    starting_s: NDArray[np.float64]
    """Pod-seconds that they existed and were not."""
    sampled: NDArray[np.float64]
    """How many they are."""


class Pods:
    """Pods of N lanes with at most P pods each."""

    def __init__(self, lanes: int, slots: int) -> None:
        self.count = np.ones(lanes, dtype=np.int64)
        self.created_at = np.full((lanes, slots), NEVER, dtype=np.int32)
        self.ready_at = np.full((lanes, slots), NEVER, dtype=np.int32)
        self.warm_at = np.full((lanes, slots), NEVER, dtype=np.int32)
        self.speed = np.zeros((lanes, slots), dtype=np.float32)
        self.cold_speed = np.zeros((lanes, slots), dtype=np.float32)
        self.kills = np.zeros((lanes, slots), dtype=np.int16)
        self._slot = np.arange(slots, dtype=np.int64)

    def reset(
        self,
        lanes: NDArray[np.int64],
        replicas: NDArray[np.int64],
        seed: NDArray[np.uint64],
        parameters: dict[str, NDArray[np.float64]],
        now: int,
    ) -> None:
        """Start lanes with pods that have long been ready and warm."""
        self.count[lanes] = 0
        for table in (self.created_at, self.ready_at, self.warm_at):
            table[lanes] = NEVER
        self.scale(lanes, replicas, seed, parameters, now=now, age_s=np.zeros_like(lanes))
        alive = self._slot < replicas[:, None]
        long_ago = np.int32(now - 10_000)
        for table in (self.created_at, self.ready_at, self.warm_at):
            table[lanes] = np.where(alive, long_ago, NEVER)

    def scale(
        self,
        lanes: NDArray[np.int64],
        target: NDArray[np.int64],
        seed: NDArray[np.uint64],
        parameters: dict[str, NDArray[np.float64]],
        *,
        now: int,
        age_s: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Create or remove pods so that each lane has its target.

        Args:
            lanes: Lanes to change (K,).
            target: Pods wanted (K,).
            seed: Seeds of those lanes (K,).
            parameters: Parameters of those lanes, each (K,).
            now: The common clock, seconds.
            age_s: Seconds since each lane's episode began (K,).

        Returns:
            Pods removed from each lane (K,).
        """
        before = self.count[lanes]
        new = (self._slot >= before[:, None]) & (self._slot < target[:, None])  # (K, P)
        row, slot = np.nonzero(new)
        lane = lanes[row]
        draw = (slot + age_s[row] * _SLOTS).astype(np.uint64)
        own = {name: parameters[name][row] for name in _PER_POD}
        deviation = np.maximum(
            1.0 + own["startup_cv"] * triangular(seed[row], draw, Purpose.STARTUP), 0.2
        )
        startup = np.maximum(own["startup_s"] * deviation, 1.0)
        ready_at = (now + np.rint(startup)).astype(np.int32)
        room = slot < own["schedulable_pods"]
        ready_at = np.where(room, ready_at, NEVER)
        warm = np.rint(own["warm_s"]).astype(np.int32)
        speed = np.maximum(
            1.0 + own["pod_speed_cv"] * triangular(seed[row], draw, Purpose.SPEED), 0.3
        )
        self.created_at[lane, slot] = now
        self.ready_at[lane, slot] = ready_at
        self.warm_at[lane, slot] = np.where(room, ready_at + warm, NEVER)
        self.speed[lane, slot] = speed
        self.cold_speed[lane, slot] = speed * own["warm_speed_ratio"]
        self.kills[lane, slot] = 0
        gone_row, gone_slot = np.nonzero(
            (self._slot >= target[:, None]) & (self._slot < before[:, None])
        )
        for table in (self.created_at, self.ready_at, self.warm_at):
            table[lanes[gone_row], gone_slot] = NEVER
        self.count[lanes] = target
        removed: NDArray[np.int64] = np.maximum(before - target, 0)
        return removed

    def follow(self, leader: NDArray[np.int64]) -> None:
        """Put every lane's pods into the state of its leader's (N,)."""
        tables = (self.count, self.created_at, self.ready_at, self.warm_at, self.kills)
        for table in (*tables, self.speed, self.cold_speed):
            table[:] = table[leader]

    def kill(
        self,
        lanes: NDArray[np.int64],
        slot: NDArray[np.int64],
        backoff_s: NDArray[np.float64],
        startup_s: NDArray[np.float64],
        now: int,
    ) -> None:
        """Out of memory: the container restarts after its back-off and starts up anew."""
        doublings = np.minimum(self.kills[lanes, slot], 5)
        wait = np.minimum(backoff_s * 2.0**doublings, _MAX_BACKOFF_S)
        ready_at = (now + np.rint(wait + startup_s)).astype(np.int32)
        warm = self.warm_at[lanes, slot] - self.ready_at[lanes, slot]
        self.ready_at[lanes, slot] = ready_at
        self.warm_at[lanes, slot] = ready_at + warm
        self.kills[lanes, slot] += 1

    def ready(self, now: int) -> NDArray[np.bool_]:
        """Which pods take requests at a time (N, P)."""
        mask: NDArray[np.bool_] = self.ready_at <= now
        return mask

    def ready_count(self, now: int) -> NDArray[np.int64]:
        """Ready pods (N,)."""
        return np.asarray(np.count_nonzero(self.ready(now), axis=1), dtype=np.int64)

    def speeds(self, now: int) -> NDArray[np.float32]:
        """Speed of each pod (N, P), 0 where none is ready."""
        warm = np.where(self.warm_at <= now, self.speed, self.cold_speed)
        return np.where(self.ready(now), warm, np.float32(0.0))

    def total_speed(self, now: int) -> NDArray[np.float32]:
        """Sum of the ready pods' speeds (N,)."""
        cold = np.einsum("np,np->n", self.cold_speed, self.ready_at <= now)
        rest = np.einsum("np,np->n", self.speed - self.cold_speed, self.warm_at <= now)
        return np.asarray(cold + rest, dtype=np.float32)

    def exposure(
        self, begin: NDArray[np.int64], end: NDArray[np.int64], youngest_s: NDArray[np.float64]
    ) -> Exposure:
        """What the pods that live now did between two moments of each lane (N,).

        Args:
            begin: Common clock (N,).
            end: Common clock (N,).
            youngest_s: Age from which a pod has been scraped twice (N,).
        """
        span = (end - begin).astype(np.float64)
        # Most pods have been ready all the time; only the others are looked at one by one.
        late = (self.ready_at > begin[:, None]) & (self.created_at < NEVER)
        lane, slot = np.divmod(np.flatnonzero(late), late.shape[1])
        created = self.created_at[lane, slot]
        first, last = begin[lane], end[lane]
        sampled = created <= last - youngest_s[lane]
        serving = np.maximum(last - np.maximum(self.ready_at[lane, slot], first), 0) * sampled
        existing = np.maximum(last - np.maximum(created, first), 0) * sampled
        settled = self.count - np.bincount(lane, minlength=len(self.count))
        return Exposure(
            serving_s=settled * span + self._by_lane(lane, serving),
            starting_s=self._by_lane(lane, existing - serving),
            sampled=settled + self._by_lane(lane, sampled),
        )

    def _by_lane(self, lane: NDArray[np.int64], values: NDArray[np.generic]) -> NDArray[np.float64]:
        sums = np.bincount(lane, values.astype(np.float64), len(self.count))
        return np.asarray(sums, dtype=np.float64)

    def transitions(self, now: int, seconds: int) -> Transitions:
        """What becomes ready or warm after `now` and before `now + seconds`."""
        lanes = len(self.count)
        speed = np.zeros((seconds, lanes), dtype=np.float32)
        ready = np.zeros((seconds, lanes), dtype=np.float32)
        end = now + seconds
        lane, slot = _between(self.ready_at, now, end)
        second = self.ready_at[lane, slot] - now
        np.add.at(speed, (second, lane), self.cold_speed[lane, slot])
        np.add.at(ready, (second, lane), np.float32(1.0))
        lane, slot = _between(self.warm_at, now, end)
        second = self.warm_at[lane, slot] - now
        gain = self.speed[lane, slot] - self.cold_speed[lane, slot]
        np.add.at(speed, (second, lane), gain)
        return Transitions(speed, ready)


_PER_POD: Final = (
    "startup_s",
    "startup_cv",
    "schedulable_pods",
    "warm_s",
    "warm_speed_ratio",
    "pod_speed_cv",
)


def _between(
    at: NDArray[np.int32], now: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    flat = np.flatnonzero((at > now) & (at < end))
    lane, slot = np.divmod(flat, at.shape[1])
    return lane, slot


def pick_ready(
    ready: NDArray[np.bool_], seed: NDArray[np.uint64], age_s: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One ready pod of each lane (K,) by chance; the mask (K, P) has one in every row."""
    order = np.cumsum(ready, axis=1)
    wanted = 1 + np.floor(
        uniform(seed, age_s.astype(np.uint64), Purpose.VICTIM) * order[:, -1]
    ).astype(np.int64)
    return np.asarray(np.argmax(order >= wanted[:, None], axis=1), dtype=np.int64)
