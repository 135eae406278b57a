"""Micro-batching: whatever waits when the engine is free becomes one batch.

There is no timer. A request that finds the engine idle starts at the end of the current turn of the
event loop, together with those that the same turn brought; while a batch is under way, later ones
gather. So one connection never waits for a second one, and the batch grows with the load alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from nimbusguard.contract.errors import Overloaded


class Item(Protocol):
    """One request in the queue."""

    @property
    def rows(self) -> int:
        """How many rows it brings to its batch."""


ItemT = TypeVar("ItemT", bound=Item)


class MicroBatcher(Generic[ItemT]):
    """Collects items into batches and hands each batch to `start`.

    Args:
        start: Begins work on a batch. It must lead to exactly one call of `done`, before or after
            it returns, and must not raise.
        concurrency: Batches under way at the same time.
        max_waiting: Items that may wait; one more is refused.
        max_waiting_rows: Rows of waiting items from which on another item is refused.
        max_batch_rows: Rows of one batch. An item larger than this makes a batch of its own.
    """

    def __init__(
        self,
        start: Callable[[list[ItemT]], None],
        *,
        concurrency: int,
        max_waiting: int,
        max_waiting_rows: int,
        max_batch_rows: int,
    ) -> None:
        self._start = start
        self._free = concurrency
        self._max_waiting = max_waiting
        self._max_waiting_rows = max_waiting_rows
        self._waiting_rows = 0
        self._max_batch_rows = max_batch_rows
        self._waiting: deque[ItemT] = deque()
        self._is_scheduled = False

    @property
    def waiting(self) -> int:
        """Items that wait for a batch."""
        return len(self._waiting)

    def open_items(self) -> list[ItemT]:
        """The items that wait, in their order."""
        return list(self._waiting)

    def drop(self, is_over: Callable[[ItemT], bool]) -> None:
        """Take the items out of the queue for which something holds, and make room for others."""
        self._waiting = deque(item for item in self._waiting if not is_over(item))
        self._waiting_rows = sum(item.rows for item in self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether one more item would be refused."""
        return (
            len(self._waiting) >= self._max_waiting or self._waiting_rows >= self._max_waiting_rows
        )

    def check_room(self) -> None:
        """Refuse early, before a body is parsed, when the queue is full.

        Raises:
            Overloaded: The queue is full.
        """
        if self.is_full:
            message = (
                f"overloaded: {len(self._waiting)} requests with {self._waiting_rows} rows wait, "
                f"at most {self._max_waiting} with {self._max_waiting_rows} may; retry, or add "
                "replicas"
            )
            raise Overloaded(message)

    def submit(self, item: ItemT) -> None:
        """Queue an item.

        Raises:
            Overloaded: The queue is full.
        """
        self.check_room()
        self._waiting.append(item)
        self._waiting_rows += item.rows
        self._schedule()

    def done(self) -> None:
        """A batch is finished; the next one may start."""
        self._free += 1
        if self._waiting:
            self._schedule()

    def _schedule(self) -> None:
        if self._free and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        while self._waiting and self._free:
            self._free -= 1
            self._start(self._next_batch())

    def _next_batch(self) -> list[ItemT]:
        batch = [self._waiting.popleft()]
        rows = batch[0].rows
        while self._waiting and rows + self._waiting[0].rows <= self._max_batch_rows:
            item = self._waiting.popleft()
            batch.append(item)
            rows += item.rows
        self._waiting_rows -= rows
        return batch
