"""Drills on the real clock: KServe killed at the interval of 15 s, and metrics that stand still.

Both take a minute, so they run at the same time, each with an operator and a namespace of its own.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.demo.deciders import OperatorProcess
from tests.drills.between import Between
from tests.drills.site import REPLICAS, Site, decisions, removals, until, window
from tests.standin.kube_api import Scaling

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="session")]
REAL_INTERVAL_S = 15.0
"""A policy's default."""
SHORT_WINDOW_S = 4.0
FROZEN_AFTER_S = 60.0
SLACK_S = 2.0
"""For an evaluation, its status, and a busy machine."""
POLICIES = ("one", "two", "three")
"""Each has its turn at another place of the interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """What the operator made of KServe's death and return."""

    fell_s: float
    back_s: float
    began_closed: bool
    """Whether the breaker was closed before; that it opened and closed again was waited for."""
    scalings: list[Scaling]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What it made of metrics that stand still under load."""

    noticed_s: float
    told: dict[str, Any]
    scalings: list[Scaling]
    """After it was noticed."""
    replicas: int


async def shows(operator: OperatorProcess, state: str) -> bool:
    """Whether the breaker's metric is 1 for this state."""
    return await operator.metric("nimbusguard_breaker_state", arm="stable", state=state) == 1.0


async def kill_kserve(site: Site) -> Killed:
    """SIGKILL to transformer and predictor; new ones take their place."""

    def everybody(source: str) -> bool:
        return all(site.source(name, "kill") == source for name in POLICIES)

    for name in POLICIES:
        site.set_replicas(REPLICAS, name, "kill")
    spec = {"intervalSeconds": REAL_INTERVAL_S}
    async with (
        site.policy(POLICIES[0], "kill", **spec),
        site.policy(POLICIES[1], "kill", **spec),
        site.policy(POLICIES[2], "kill", **spec),
        site.operator("kill", AUTOSCALER_NAMESPACES="kill") as operator,
    ):
        await until("KServe decides", lambda: everybody("kserve"), 3 * REAL_INTERVAL_S)
        before = await shows(operator, "closed")
        began_s = time.monotonic()
        site.on.transformer.process.kill()
        site.on.predictor.process.kill()
        fell_s = await until("fallback", lambda: everybody("local_model"), 2 * REAL_INTERVAL_S)
        # Three failures open it; policies whose turns fall together make one question of two.
        await until("breaker open", lambda: shows(operator, "open"), 2 * REAL_INTERVAL_S)
        await site.restart_kserve()
        back_s = await until("KServe again", lambda: everybody("kserve"), 4 * REAL_INTERVAL_S)
        await until("breaker closed", lambda: shows(operator, "closed"), SLACK_S)
        scalings = site.scalings(began_s, "kill")
    return Killed(fell_s=fell_s, back_s=back_s, began_closed=before, scalings=scalings)


async def freeze_prometheus(site: Site) -> Frozen:
    """The same answer for ever, as a scraper that died behind a cache gives it."""
    answers: list[Any] = []

    def again(answer: Any) -> object:
        answers.append(answer)
        return answers[0]

    def told() -> dict[str, Any]:
        return site.condition("MetricsTrusted", "still", "frozen")

    site.set_replicas(REPLICAS, "still", "frozen")
    async with (
        Between(site.on.stack.endpoint, "/query").listening() as prometheus,
        site.policy("still", "frozen", **window(SHORT_WINDOW_S)),
        site.operator(
            "frozen", AUTOSCALER_NAMESPACES="frozen", PROMETHEUS_ENDPOINT=prometheus.url
        ) as operator,
    ):
        await until("trusted", lambda: told().get("status") == "True", 30.0)
        prometheus.change = again
        noticed_s = await until(
            "noticed", lambda: told()["status"] == "False", FROZEN_AFTER_S + 20.0
        )
        why, began_s = told(), time.monotonic()
        site.set_replicas(2 * REPLICAS, "still", "frozen")
        await decisions(operator, 4)
        scalings, replicas = site.scalings(began_s, "frozen"), site.replicas("still", "frozen")
        prometheus.heal()
        await until("trusted again", lambda: told()["status"] == "True", 20.0)
    return Frozen(noticed_s=noticed_s, told=why, scalings=scalings, replicas=replicas)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(live: Site) -> tuple[Killed | BaseException, Frozen | BaseException]:
    killed, frozen = await asyncio.gather(
        kill_kserve(live), freeze_prometheus(live), return_exceptions=True
    )
    return killed, frozen


async def test_kserve_is_killed_and_comes_back(
    both: tuple[Killed | BaseException, Frozen | BaseException],
) -> None:
    """The local model within one interval, KServe within two of its return; the breaker shows."""
    killed, _ = both
    if isinstance(killed, BaseException):
        raise killed

    assert killed.fell_s < REAL_INTERVAL_S + SLACK_S
    assert killed.back_s < 2 * REAL_INTERVAL_S + SLACK_S
    assert killed.began_closed
    assert removals(killed.scalings) == []


async def test_frozen_metrics_change_nothing_once_they_are_noticed(
    both: tuple[Killed | BaseException, Frozen | BaseException],
) -> None:
    """After a minute; the short window is long over, so it is the distrust that holds."""
    _, frozen = both
    if isinstance(frozen, BaseException):
        raise frozen

    assert frozen.noticed_s > FROZEN_AFTER_S - SLACK_S
    assert frozen.told["reason"] == "Frozen"
    assert frozen.scalings == []
    assert frozen.replicas == 2 * REPLICAS
