"""Whose time is over, told by one timer, on a real event loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from serving.batching import MicroBatcher
from serving.deadlines import Deadlines

DEADLINE_S = 0.05


@dataclass
class Item:
    """A request and when it ended."""

    arrived: float = field(default_factory=time.perf_counter)
    ended: float | None = None
    rows: int = 1


class Desk:
    """Items that wait for nothing but their deadline."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.rings = 0
        self.deadlines: Deadlines[Item] = Deadlines(
            DEADLINE_S, still_open=self.still_open, expire=self.expire
        )

    def still_open(self) -> list[Item]:
        self.rings += 1
        return [item for item in self.items if item.ended is None]

    def expire(self, items: list[Item]) -> None:
        for item in items:
            item.ended = time.perf_counter()

    def add(self, item: Item) -> Item:
        self.items.append(item)
        self.deadlines.watch(item)
        return item

    async def until_all_ended(self) -> None:
        async with asyncio.timeout(5.0):
            while self.still_open():  # noqa: ASYNC110 - the fact is in the items
                await asyncio.sleep(0.001)


async def test_each_ends_at_its_own_deadline() -> None:
    """Never before it, and soon after it, though they came one after another."""
    desk = Desk()
    for _ in range(5):
        desk.add(Item())
        await asyncio.sleep(DEADLINE_S / 5)

    await desk.until_all_ended()

    taken = [item.ended - item.arrived for item in desk.items if item.ended is not None]
    assert len(taken) == 5
    assert all(DEADLINE_S <= seconds < 4 * DEADLINE_S for seconds in taken)


async def test_who_came_earlier_but_was_noticed_later_is_not_late() -> None:
    """A call whose metrics were looked up first has less time left than those before it."""
    desk = Desk()
    young = desk.add(Item())
    old = desk.add(Item(arrived=young.arrived - DEADLINE_S))

    await asyncio.sleep(0.01)

    assert old.ended is not None
    assert young.ended is None


async def test_what_was_answered_in_time_costs_one_look() -> None:
    """A thousand calls, one timer: it rings once a deadline, not once a call."""
    desk = Desk()
    for _ in range(1_000):
        desk.add(Item()).ended = 0.0

    await asyncio.sleep(2 * DEADLINE_S)

    assert desk.rings == 1


async def test_dropped_items_make_room_in_the_queue() -> None:
    """Those that stay keep their order, and the rows are counted anew."""
    batches: list[list[Item]] = []
    batcher: MicroBatcher[Item] = MicroBatcher(
        batches.append, concurrency=1, max_waiting=3, max_waiting_rows=100, max_batch_rows=10
    )
    batcher.submit(Item())
    await asyncio.sleep(0)
    first, second, third = (Item(rows=rows) for rows in (2, 4, 5))
    for item in (first, second, third):
        batcher.submit(item)
    second.ended = 1.0

    batcher.drop(lambda item: item.ended is not None)

    assert (batcher.waiting, batcher.is_full) == (2, False)
    batcher.done()
    await asyncio.sleep(0)
    assert batches[1] == [first, third]
