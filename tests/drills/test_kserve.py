"""KServe slow, broken, foreign: the local model decides, and KServe again when it is well."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.demo.deciders import OperatorProcess
from tests.drills.between import Between
from tests.drills.site import INTERVAL_S, Site, decisions, removals, until

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="session")]
COOL_DOWN_S = 10.0
"""The breaker's; five of these short intervals, two thirds of one of 15 s."""
DEADLINE_S = 5.0
SLACK_S = 3.0
"""For the evaluation, its status, and a machine that does other work too."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(live: Site) -> AsyncIterator[OperatorProcess]:
    async with live.policy(), live.operator("kserve") as running:
        yield running


async def by_kserve(operator: OperatorProcess) -> float:
    """Decisions that were KServe's."""
    return sum(n for one, n in (await operator.answers()).items() if one.source == "kserve")


def with_rows(change: dict[str, Any]) -> Callable[[Any], object]:
    """Every decision of an answer with some fields replaced."""

    def changed(answer: Any) -> object:
        return {"predictions": [row | change for row in answer["predictions"]]}

    return changed


def slow(between: Between) -> None:
    between.delay_s = 2 * DEADLINE_S


def failing(between: Between) -> None:
    between.status = 500


def garbage(between: Between) -> None:
    between.change = lambda answer: "<html>502 Bad Gateway</html>"


def null(between: Between) -> None:
    between.change = lambda answer: None


def nulls(between: Between) -> None:
    between.change = with_rows({"q_values": [None] * 5})


def foreign(between: Between) -> None:
    between.change = with_rows({"fingerprint": f"sha256:{'0' * 64}"})


@pytest.mark.parametrize("fault", [failing, garbage, null, nulls, foreign, slow])
async def test_the_local_model_answers_for_a_broken_kserve(
    site: Site, operator: OperatorProcess, fault: Callable[[Between], None]
) -> None:
    """In the next decision, if none was under way; the condition says why; then KServe again."""
    await until("KServe decides", lambda: site.source() == "kserve", 20.0)
    began_s, before = time.monotonic(), await by_kserve(operator)

    fault(site.kserve)
    fell_s = await until("fallback", lambda: site.source() == "local_model", 20.0)
    told, after = site.condition("Served"), await by_kserve(operator)
    await decisions(operator, 1)
    site.kserve.heal()
    back_s = await until("KServe again", lambda: site.source() == "kserve", 30.0)

    assert after <= before + 1
    assert fell_s < INTERVAL_S + (DEADLINE_S if fault is slow else 0.0) + SLACK_S
    assert back_s < COOL_DOWN_S + 2 * INTERVAL_S + SLACK_S
    assert (told["status"], told["reason"]) == ("False", "LocalModel")
    assert told["message"]
    assert removals(site.scalings(began_s, "kserve")) == []
