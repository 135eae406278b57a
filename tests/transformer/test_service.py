"""Raw metrics in, decisions out: batches, deadlines, and what one call cannot do to another."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from nimbusguard.contract.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NonFiniteOutput,
    Overloaded,
    PredictorUnavailable,
)
from nimbusguard.contract.features import NAMES
from tests.serving.in_process import (
    ROW,
    DirectClient,
    Outcome,
    ask_all,
    packaged_network,
    transformer_service,
)
from transformer.readiness import PredictorProbe

BODY = {"instances": [ROW]}
ABSENT = [None, *ROW[1:]]


@pytest.fixture
async def client() -> DirectClient:
    return DirectClient(packaged_network().infer)


def decisions(service: Any, outcome: Outcome) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(service.v1_body(outcome.result))["predictions"]
    return documents


async def test_requests_that_wait_together_share_one_hop(client: DirectClient) -> None:
    """Each gets its own rows of the answer, in its own order."""
    service = transformer_service(client)
    pods = [[4, 7], [2], [9, 1, 5]]
    bodies = [{"instances": [[*ROW[:4], count, *ROW[5:]] for count in counts]} for counts in pods]

    outcomes = await ask_all(service, bodies)

    assert client.batches == [6]
    assert [
        [decision["current_replicas"] for decision in decisions(service, outcome)]
        for outcome in outcomes
    ] == pods


async def test_a_row_that_cannot_be_decided_on_never_travels(client: DirectClient) -> None:
    """Its request is refused, its neighbours are answered, the hop carries theirs alone."""
    service = transformer_service(client)

    outcomes = await ask_all(service, [BODY, {"instances": [ROW, ABSENT]}, BODY])

    assert client.batches == [2]
    assert isinstance(outcomes[1].error, InvalidRequest)
    assert str(outcomes[1].error).startswith("instance 1: cpu_utilization: expected a number")
    assert outcomes[0].error is outcomes[2].error is None


async def test_nothing_travels_when_nothing_can_be_decided_on(client: DirectClient) -> None:
    """No hop for a batch of refused rows."""
    await ask_all(transformer_service(client), [{"instances": [ABSENT]}] * 3)

    assert client.batches == []


async def test_an_operators_declaration_holds(client: DirectClient) -> None:
    """`ABSENT_AS_ZERO` lets a row without latency pass under traffic, and lists it as imputed."""
    service = transformer_service(client, absent_as_zero=("response_time_p95",))

    (outcome,) = await ask_all(service, [{"instances": [[*ROW[:5], None, *ROW[6:]]]}])

    assert decisions(service, outcome)[0]["imputed_features"] == ["response_time_p95"]


async def test_nan_out_of_the_network_fails_only_the_requests_that_cause_it() -> None:
    """The hop is repeated request by request."""
    network = packaged_network()

    def infer(state: np.ndarray) -> np.ndarray:
        if (state[:, 0] == 1.0).any():
            raise NonFiniteOutput("predictor: the network returned NaN or infinity")
        return network.infer(state)

    poison = {"instances": [[1.0, *ROW[1:]]]}
    outcomes = await ask_all(transformer_service(DirectClient(infer)), [BODY, poison, BODY])

    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        NonFiniteOutput,
        type(None),
    ]


async def test_a_lost_predictor_fails_every_request_of_the_batch() -> None:
    """With the same reason, once each."""

    def infer(state: np.ndarray) -> np.ndarray:
        raise PredictorUnavailable("predictor at p:80: connection refused")

    outcomes = await ask_all(transformer_service(DirectClient(infer)), [BODY] * 4)

    assert {str(outcome.error) for outcome in outcomes} == {"predictor at p:80: connection refused"}


async def test_a_defect_fails_its_batch_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the next batch is answered."""
    network = packaged_network()
    fails = iter([True])

    def infer(state: np.ndarray) -> np.ndarray:
        if next(fails, False):
            raise RuntimeError("boom")
        return network.infer(state)

    service = transformer_service(DirectClient(infer))

    first = await ask_all(service, [BODY] * 2)
    second = await ask_all(service, [BODY])

    assert [str(outcome.error) for outcome in first] == ["boom", "boom"]
    assert second[0].error is None
    assert "unexpected error" in caplog.text


async def test_who_waited_too_long_is_told_so_and_does_not_travel(client: DirectClient) -> None:
    """The deadline runs from the arrival, waiting included."""
    service = transformer_service(client, deadline_s=0.05)
    client.gate.clear()
    under_way = [Outcome(*service.parse_v1(BODY)) for _ in range(2)]
    for outcome in under_way:  # both hops are taken
        service.submit(outcome)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    late = Outcome(*service.parse_v1(BODY))
    service.submit(late)
    late.arrived -= 1.0

    client.gate.set()
    await late.ended

    assert isinstance(late.error, DeadlineExceeded)
    assert "deadline of 0.05 s" in str(late.error)
    assert sum(client.batches) == 2


async def test_a_younger_call_does_not_share_the_deadline_of_its_batch(
    client: DirectClient,
) -> None:
    """The oldest is told that its time is over; the youngest still gets the answer of that hop."""
    service = transformer_service(client, deadline_s=0.2)
    client.gate.clear()
    old, young = (Outcome(*service.parse_v1(BODY)) for _ in range(2))
    old.arrived -= 0.15
    service.submit(old)
    service.submit(young)

    await old.ended
    client.gate.set()
    await young.ended

    assert client.batches == [2]
    assert isinstance(old.error, DeadlineExceeded)
    assert young.error is None
    assert len(decisions(service, young)) == 1


async def test_a_call_that_waits_behind_slow_hops_ends_at_its_own_deadline(
    client: DirectClient,
) -> None:
    """While both hops hang, and its place in the queue is free again at once."""
    service = transformer_service(client, deadline_s=0.1, max_waiting=1)
    client.gate.clear()
    for _ in range(2):
        service.submit(Outcome(*service.parse_v1(BODY)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    waits = Outcome(*service.parse_v1(BODY))
    waits.arrived -= 0.08
    service.submit(waits)

    await waits.ended

    assert isinstance(waits.error, DeadlineExceeded)
    assert len(client.batches) == 2
    assert not service.is_full
    client.gate.set()


async def test_the_hop_may_take_until_the_youngest_is_over(client: DirectClient) -> None:
    """And no longer: nobody would hear the answer."""
    service = transformer_service(client, deadline_s=2.0)
    calls = [Outcome(*service.parse_v1(BODY)) for _ in range(3)]
    for seconds, call in zip((0.5, 0.1, 0.9), calls, strict=True):
        call.arrived -= seconds
        service.submit(call)

    await asyncio.gather(*(call.ended for call in calls))

    assert client.deadlines == [calls[1].arrived + 2.0]


async def test_a_full_queue_refuses_at_once(client: DirectClient) -> None:
    """While the predictor is slow, at most `max_waiting` requests wait."""
    service = transformer_service(client, max_waiting=3)
    client.gate.clear()
    outcomes: list[Outcome] = []

    while not service.is_full:
        outcomes.append(Outcome(*service.parse_v1(BODY)))
        service.submit(outcomes[-1])
        await asyncio.sleep(0)

    assert 3 <= len(outcomes) < 10
    with pytest.raises(Overloaded, match="3 requests with 3 rows wait, at most 3"):
        service.submit(Outcome(*service.parse_v1(BODY)))
    client.gate.set()
    await asyncio.gather(*(outcome.ended for outcome in outcomes))
    assert all(outcome.error is None for outcome in outcomes)


async def test_a_caller_who_has_gone_costs_no_hop(client: DirectClient) -> None:
    """Its rows leave the batch before it travels."""
    service = transformer_service(client)
    stays, leaves = (Outcome(*service.parse_v1(BODY)) for _ in range(2))
    service.submit(stays)
    service.submit(leaves)
    leaves.gone = True

    await stays.ended

    assert client.batches == [1]


async def test_a_workload_is_named_again_in_its_own_decision(client: DirectClient) -> None:
    """And in no other, whatever the batch."""
    service = transformer_service(client)
    features = dict(zip(NAMES, ROW, strict=True))
    named = {"instances": [{**features, "workload": "shop/web"}, ROW]}

    plain, with_name = await ask_all(service, [BODY, named])

    assert "workload" not in decisions(service, plain)[0]
    first, second = decisions(service, with_name)
    assert first["workload"] == "shop/web"
    assert "workload" not in second


async def test_readiness_follows_the_probe() -> None:
    """Not asked yet, answering, lost, failing in a way that nobody foresaw, and back."""
    network = packaged_network()
    errors: list[Exception | None] = [
        None,
        PredictorUnavailable("predictor: gone"),
        RuntimeError("nobody foresaw this"),
        NonFiniteOutput("predictor: the network returned NaN or infinity"),
        None,
    ]

    def infer(state: np.ndarray) -> np.ndarray:
        error = errors.pop(0)
        if error is not None:
            raise error
        return network.infer(state)

    probe = PredictorProbe(DirectClient(infer))
    reasons = [_reason(probe)]
    while errors:
        await probe._probe()
        reasons.append(_reason(probe))

    assert reasons == [
        "predictor: not asked yet",
        None,
        "predictor: gone",
        "predictor: probing it failed: nobody foresaw this",
        "predictor: the network returned NaN or infinity",
        None,
    ]
    assert probe.last is not None
    assert probe.last.model_version == "1"


def _reason(probe: PredictorProbe) -> str | None:
    try:
        probe.check()
    except PredictorUnavailable as error:
        return str(error)
    return None
