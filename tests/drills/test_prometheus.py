"""Prometheus down, slow, lying: nothing is removed, and it is believed again when it is well."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import pytest_asyncio

from tests.demo.deciders import OperatorProcess
from tests.drills.between import workload_of
from tests.drills.site import REPLICAS, Site, decisions, removals, until, window

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="session")]
WINDOW_S = 2.0
"""One interval: what keeps the replicas is the distrust of the data, and no older wish."""
Fault = Callable[[Site], AbstractContextManager[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(live: Site) -> AsyncIterator[OperatorProcess]:
    async with live.policy(**window(WINDOW_S)), live.operator("metrics") as running:
        yield running


def with_values(change: Callable[[int, str, str], str | None]) -> Callable[[Any], object]:
    """An instant answer with other values, by place, name and value; None leaves a series out."""

    def changed(answer: Any) -> object:
        kept = []
        for number, series in enumerate(answer["data"]["result"]):
            at, value = series["value"]
            new = change(number, series["metric"]["__name__"], value)
            if new is not None:
                kept.append(series | {"value": [at, new]})
        return answer | {"data": answer["data"] | {"result": kept}}

    return changed


def hanging(site: Site) -> AbstractContextManager[None]:
    """The real server stands still (SIGSTOP), as on a node that hangs."""
    return site.on.stack.prometheus.stopped()


def gone(site: Site) -> AbstractContextManager[None]:
    site.prometheus.gone = True
    return nullcontext()


def failing(site: Site) -> AbstractContextManager[None]:
    site.prometheus.status = 503
    return nullcontext()


def zeroed(site: Site) -> AbstractContextManager[None]:
    """All but the pods, so that the workload looks idle."""
    site.prometheus.change = with_values(
        lambda number, name, value: value if name == "nimbusguard:pod_count" else "0"
    )
    return nullcontext()


def nan(site: Site) -> AbstractContextManager[None]:
    site.prometheus.change = with_values(lambda number, name, value: "NaN")
    return nullcontext()


def half(site: Site) -> AbstractContextManager[None]:
    """Every second series, the others in the next answer."""
    turns: dict[str, Iterator[int]] = defaultdict(itertools.count)

    def every_second(answer: Any) -> object:
        left = next(turns[workload_of(answer)]) % 2
        return with_values(lambda number, name, value: value if number % 2 == left else None)(
            answer
        )

    site.prometheus.change = every_second
    return nullcontext()


@pytest.mark.parametrize("fault", [gone, failing, zeroed, nan, half, hanging])
async def test_nothing_is_removed_on_bad_metrics(
    site: Site, operator: OperatorProcess, fault: Fault
) -> None:
    """Also with more pods than the load needs; the condition says so until the data is good."""
    await until(
        "metrics trusted", lambda: site.condition("MetricsTrusted").get("status") == "True", 30.0
    )

    with fault(site):
        await until("distrust", lambda: site.condition("MetricsTrusted")["status"] == "False", 10.0)
        began_s = time.monotonic()
        site.set_replicas(2 * REPLICAS)
        await decisions(operator, 3)
        during = site.scalings(began_s, "metrics")
        held = site.replicas()
    site.set_replicas(REPLICAS)
    site.prometheus.heal()
    await until("trusted again", lambda: site.condition("MetricsTrusted")["status"] == "True", 20.0)

    assert removals(during) == []
    assert held >= 2 * REPLICAS
