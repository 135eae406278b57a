"""Who waits for which batch, on a real event loop and without a clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbusguard.contract.errors import Overloaded
from serving.batching import MicroBatcher


@dataclass(frozen=True)
class Item:
    """A request of so many rows."""

    number: int
    rows: int = 1


class Engine:
    """Keeps the batches that it was given; each ends when the test says so."""

    def __init__(
        self,
        *,
        concurrency: int = 1,
        max_waiting: int = 100,
        max_waiting_rows: int = 10_000,
        max_batch_rows: int = 1_000,
    ) -> None:
        self.batches: list[list[Item]] = []
        self.batcher: MicroBatcher[Item] = MicroBatcher(
            self.batches.append,
            concurrency=concurrency,
            max_waiting=max_waiting,
            max_waiting_rows=max_waiting_rows,
            max_batch_rows=max_batch_rows,
        )


async def _turn() -> None:
    """One turn of the event loop."""
    await asyncio.sleep(0)


async def test_a_lone_request_starts_in_the_same_turn() -> None:
    """Nothing is waited for when the engine is idle."""
    engine = Engine()

    engine.batcher.submit(Item(0))
    await _turn()

    assert engine.batches == [[Item(0)]]


async def test_what_one_turn_brings_is_one_batch() -> None:
    """Requests that were read together travel together."""
    engine = Engine()

    for number in range(5):
        engine.batcher.submit(Item(number))
    await _turn()

    assert engine.batches == [[Item(number) for number in range(5)]]


async def test_what_comes_during_a_batch_gathers() -> None:
    """The next batch is everything that came while the engine was busy."""
    engine = Engine()
    engine.batcher.submit(Item(0))
    await _turn()

    for number in (1, 2, 3):
        engine.batcher.submit(Item(number))
        await _turn()
    engine.batcher.done()
    await _turn()

    assert engine.batches == [[Item(0)], [Item(1), Item(2), Item(3)]]


async def test_as_many_batches_run_as_may() -> None:
    """A second batch starts beside the first, a third does not."""
    engine = Engine(concurrency=2)

    for number in range(3):
        engine.batcher.submit(Item(number))
        await _turn()

    assert engine.batches == [[Item(0)], [Item(1)]]
    assert engine.batcher.waiting == 1


@pytest.mark.parametrize("limits", [{"max_waiting": 3}, {"max_waiting_rows": 30}])
async def test_a_full_queue_refuses_and_recovers(limits: dict[str, int]) -> None:
    """Requests or rows, whichever is reached first; there is room again once a batch has left."""
    engine = Engine(**limits)
    engine.batcher.submit(Item(0))
    await _turn()
    for number in (1, 2, 3):
        engine.batcher.submit(Item(number, rows=10))

    assert engine.batcher.is_full
    with pytest.raises(Overloaded, match="overloaded: 3 requests with 30 rows wait"):
        engine.batcher.submit(Item(4))

    engine.batcher.done()
    await _turn()
    assert not engine.batcher.is_full
    engine.batcher.submit(Item(5))


async def test_a_request_larger_than_a_batch_is_one_of_its_own() -> None:
    """It is neither refused nor split, and those behind it do not join it."""
    engine = Engine(max_batch_rows=10)

    engine.batcher.submit(Item(0, rows=25))
    engine.batcher.submit(Item(1, rows=5))
    await _turn()
    engine.batcher.done()
    await _turn()

    assert engine.batches == [[Item(0, rows=25)], [Item(1, rows=5)]]


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 60), st.integers(1, 3))
def test_every_request_is_in_exactly_one_batch_in_order(
    sizes: list[int], max_batch_rows: int, concurrency: int
) -> None:
    """No request is lost or doubled, batches keep to their rows, the order is that of arrival."""

    async def run() -> list[list[Item]]:
        engine = Engine(concurrency=concurrency, max_batch_rows=max_batch_rows)
        items = [Item(number, rows) for number, rows in enumerate(sizes)]
        for item in items:
            engine.batcher.submit(item)
        ended = 0
        while ended < len(engine.batches) or engine.batcher.waiting:
            await _turn()
            if ended < len(engine.batches):
                engine.batcher.done()
                ended += 1
        return engine.batches

    batches = asyncio.run(run())

    assert [item for batch in batches for item in batch] == [
        Item(number, rows) for number, rows in enumerate(sizes)
    ]
    for batch in batches:
        assert len(batch) == 1 or sum(item.rows for item in batch) <= max_batch_rows
