"""Each call ends at its own deadline, whatever batch it travels in and wherever it waits.

A timer for each call would cost more than the call. But all calls have the same time, so nobody's
deadline comes before that of whoever arrived first: one timer stands at the earliest deadline that
was seen, and when it rings it looks at what is still open and is set anew. Under any load it rings
once a deadline; a call costs one comparison.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """A call that came at some time."""

    @property
    def arrived(self) -> float:
        """On the clock of `time.perf_counter`."""


TimedT = TypeVar("TimedT", bound=Timed)


class Deadlines(Generic[TimedT]):
    """Tells which calls are over.

    Args:
        deadline_s: Seconds from a call's arrival.
        still_open: The calls that have no answer yet.
        expire: Told which calls' time is over; none of them may be open afterwards.
    """

    def __init__(
        self,
        deadline_s: float,
        *,
        still_open: Callable[[], Iterable[TimedT]],
        expire: Callable[[list[TimedT]], None],
    ) -> None:
        self._deadline_s = deadline_s
        self._still_open = still_open
        self._expire = expire
        self._rings_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: TimedT) -> None:
        """Take note of a call."""
        due_at = call.arrived + self._deadline_s
        if due_at < self._rings_at:
            self._ring_at(due_at)

    def _ring_at(self, due_at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = due_at
        wait_s = max(due_at - time.perf_counter(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        latest = time.perf_counter() - self._deadline_s
        calls = list(self._still_open())
        late = [call for call in calls if call.arrived <= latest]
        if late:
            self._expire(late)
        first = min((call.arrived for call in calls if call.arrived > latest), default=math.inf)
        if first < math.inf:
            self._ring_at(first + self._deadline_s)
