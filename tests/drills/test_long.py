"""Drills on the real clock: KServe killed at the interval of 15 s, and metrics that stand still.

Both take a minute or more.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.demo.deciders import OperatorProcess
from tests.drills.between import workload_of
from tests.drills.site import REPLICAS, WEB, Site, decisions, removals, until, window

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="session")]
REAL_INTERVAL_S = 15.0
"""A policy's default."""
SHORT_WINDOW_S = 4.0
FROZEN_AFTER_S = 60.0
SLACK_S = 2.0
"""For an evaluation, its status, and a busy machine."""
POLICIES = (WEB, "two", "three")
"""Each has its turn at another place of the interval; the first acts on the pods."""


async def shows(operator: OperatorProcess, state: str) -> bool:
    """Whether the breaker's metric is 1 for this state."""
    return await operator.metric("nimbusguard_breaker_state", arm="stable", state=state) == 1.0


async def test_kserve_is_killed_and_comes_back(site: Site) -> None:
    """The local model within one interval, KServe within two of its return; the breaker shows.

    SIGKILL to transformer and predictor; new ones take their place.
    """

    def everybody(source: str) -> bool:
        return all(site.source(name) == source for name in POLICIES)

    for name in POLICIES[1:]:
        site.set_replicas(REPLICAS, name)
    async with AsyncExitStack() as stack:
        for name in POLICIES:
            await stack.enter_async_context(site.policy(name, intervalSeconds=REAL_INTERVAL_S))
        operator = await stack.enter_async_context(site.operator("kill"))
        await until("KServe decides", lambda: everybody("kserve"), 3 * REAL_INTERVAL_S)
        assert await shows(operator, "closed")
        began_s = time.monotonic()

        site.on.transformer.process.kill()
        site.on.predictor.process.kill()
        fell_s = await until("fallback", lambda: everybody("local_model"), 2 * REAL_INTERVAL_S)
        # Three failures open it; policies whose turns fall together make one question of two.
        await until("breaker open", lambda: shows(operator, "open"), 2 * REAL_INTERVAL_S)
        await site.restart_kserve()
        back_s = await until("KServe again", lambda: everybody("kserve"), 4 * REAL_INTERVAL_S)
        await until("breaker closed", lambda: shows(operator, "closed"), SLACK_S)

    assert fell_s < REAL_INTERVAL_S + SLACK_S
    assert back_s < 2 * REAL_INTERVAL_S + SLACK_S
    assert removals(site.scalings(began_s, "kill")) == []


async def test_frozen_metrics_change_nothing_once_they_are_noticed(site: Site) -> None:
    """After a minute; the short window is long over, so it is the distrust that holds.

    The same answer for ever, as a scraper that died behind a cache gives it.
    """
    first: dict[str, Any] = {}

    def again(answer: Any) -> object:
        return first.setdefault(workload_of(answer), answer)

    def trusted(status: str) -> bool:
        return site.condition("MetricsTrusted").get("status") == status

    async with site.policy(**window(SHORT_WINDOW_S)), site.operator("frozen") as operator:
        await until("trusted", lambda: trusted("True"), 30.0)
        site.prometheus.change = again
        noticed_s = await until("noticed", lambda: trusted("False"), FROZEN_AFTER_S + 20.0)
        told, began_s = site.condition("MetricsTrusted"), time.monotonic()
        site.set_replicas(2 * REPLICAS)
        await decisions(operator, 4)
        scalings, replicas = site.scalings(began_s, "frozen"), site.replicas()
        site.prometheus.heal()
        await until("trusted again", lambda: trusted("True"), 20.0)

    assert noticed_s > FROZEN_AFTER_S - SLACK_S
    assert told["reason"] == "Frozen"
    assert scalings == []
    assert replicas == 2 * REPLICAS
