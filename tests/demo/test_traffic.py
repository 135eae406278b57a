"""The load of the demo and the drills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.demo.traffic import Driver, Traffic

RATE = 100.0
WITHIN_S = 10.0
POLL_S = 0.01


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds():  # noqa: ASYNC110 - the load of another task
            await asyncio.sleep(POLL_S)


@pytest.mark.asyncio
async def test_a_load_that_was_switched_off_comes_back() -> None:
    """Moments without load take their time too: they are not run through to the end at once."""
    looked: list[float] = []
    now = 0.0

    def rate(since_s: float) -> float:
        looked.append(since_s)
        return now

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        traffic = Traffic(name="switched", peak_rate=RATE, seconds=3600.0, rate=rate)
        driver = Driver(traffic, {"web": str(server.make_url("/"))}, seed=1, objective_s=1.0)
        running = asyncio.create_task(driver.run())
        await until(lambda: len(looked) > 5)
        assert looked[-1] < WITHIN_S
        assert driver.requests["web"] == []

        now = RATE
        await until(lambda: len(driver.requests["web"]) > 5)
        # Before the end of the run, which those under way do not outlive.
        answered = [one.succeeded for one in driver.requests["web"]]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert all(answered)
