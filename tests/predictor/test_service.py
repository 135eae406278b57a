"""States in, Q-values out: batches, and what one call cannot do to another."""

from __future__ import annotations

import asyncio

import numpy as np
import orjson
import pytest

from model_store.probe import probe_states
from nimbusguard.contract.errors import InvalidRequest, NonFiniteOutput, Overloaded
from tests.service.processes import VERSION
from tests.serving.in_process import (
    STATE,
    Network,
    Outcome,
    ask_all,
    packaged_network,
    predictor_service,
)


def states_of(rows: int, seed: int = 0) -> list[list[float]]:
    values: list[list[float]] = probe_states(rows, seed=seed).tolist()
    return values


async def test_requests_that_wait_together_share_one_forward_pass() -> None:
    """Each gets its own rows of the answer, in its own order."""
    seen: list[int] = []
    network = packaged_network()

    def infer(state: np.ndarray) -> np.ndarray:
        seen.append(len(state))
        return network.infer(state)

    service = predictor_service(Network(infer))
    bodies = [{"instances": states_of(rows, seed=rows)} for rows in (1, 5, 2, 100)]

    outcomes = await ask_all(service, bodies)

    assert seen == [108]
    together = [row for body in bodies for row in body["instances"]]
    wanted = network.infer(np.array(together, dtype=np.float32))
    answered = np.concatenate([outcome.result for outcome in outcomes])
    np.testing.assert_array_equal(answered, wanted)
    assert [len(outcome.result) for outcome in outcomes] == [1, 5, 2, 100]


async def test_a_batch_ends_at_its_largest_size() -> None:
    """The next one takes the rest; a request larger than a batch goes alone."""
    seen: list[int] = []
    network = packaged_network()

    def infer(state: np.ndarray) -> np.ndarray:
        seen.append(len(state))
        return network.infer(state)

    service = predictor_service(Network(infer), max_batch_rows=10)

    await ask_all(service, [{"instances": states_of(rows)} for rows in (6, 4, 1, 25, 9)])

    assert seen == [10, 1, 25, 9]


async def test_a_row_that_is_no_state_spoils_no_other_request() -> None:
    """Its own request is refused, by row and feature; its neighbours are answered."""
    bad = [*STATE[:3], 85.0, *STATE[4:]]
    bodies = [
        {"instances": [STATE]},
        {"instances": [STATE, bad]},
        {"instances": [[float("nan")] * 11]},
        {"instances": [STATE, STATE]},
    ]

    outcomes = await ask_all(predictor_service(), bodies)

    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        InvalidRequest,
        InvalidRequest,
        type(None),
    ]
    assert str(outcomes[1].error) == (
        "instance 1: request_rate: expected a normalized value in [0, 1], got 85.0; raw metrics "
        "go to the transformer"
    )


async def test_nan_out_of_the_network_fails_only_the_rows_that_cause_it() -> None:
    """The batch is tried again call by call, and each failure is counted."""
    network = packaged_network()

    def infer(state: np.ndarray) -> np.ndarray:
        if (state[:, 0] == 1.0).any():
            raise NonFiniteOutput("expected finite Q-values, the network returned NaN")
        return network.infer(state)

    service = predictor_service(Network(infer))
    poison = [1.0, *STATE[1:]]

    outcomes = await ask_all(
        service, [{"instances": [row]} for row in (STATE, poison, STATE, poison)]
    )

    assert [outcome.error is None for outcome in outcomes] == [True, False, True, False]
    assert isinstance(outcomes[1].error, NonFiniteOutput)


async def test_a_defect_of_the_network_is_told_to_every_call_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody waits for ever, and the next batch runs."""
    network = packaged_network()
    fails = iter([True])

    def infer(state: np.ndarray) -> np.ndarray:
        if next(fails, False):
            raise RuntimeError("boom")
        return network.infer(state)

    service = predictor_service(Network(infer))

    first = await ask_all(service, [{"instances": [STATE]}] * 3)
    second = await ask_all(service, [{"instances": [STATE]}])

    assert [str(outcome.error) for outcome in first] == ["boom"] * 3
    assert second[0].error is None
    assert "forward pass failed" in caplog.text


async def test_a_caller_who_has_gone_costs_no_forward_pass() -> None:
    """Its rows leave the batch before it is run."""
    seen: list[int] = []
    network = packaged_network()

    def infer(state: np.ndarray) -> np.ndarray:
        seen.append(len(state))
        return network.infer(state)

    service = predictor_service(Network(infer))
    stays, leaves = (Outcome(*service.parse_v1({"instances": [STATE]})) for _ in range(2))
    service.submit(stays)
    service.submit(leaves)
    leaves.gone = True

    await stays.ended

    assert seen == [1]
    assert not leaves.ended.done()


async def test_a_full_queue_refuses_at_once() -> None:
    """More than `max_waiting` requests do not wait; afterwards there is room again."""
    service = predictor_service(max_waiting=2)
    waiting = [Outcome(*service.parse_v1({"instances": [STATE]})) for _ in range(2)]
    for outcome in waiting:
        service.submit(outcome)

    with pytest.raises(Overloaded, match="2 requests with 2 rows wait, at most 2"):
        service.check_room()
    with pytest.raises(Overloaded, match="retry, or add replicas"):
        service.submit(Outcome(*service.parse_v1({"instances": [STATE]})))
    assert service.is_full

    await asyncio.gather(*(outcome.ended for outcome in waiting))
    assert not service.is_full


async def test_answers_are_written_as_plain_numbers() -> None:
    """V1 as nested arrays, V2 with version and fingerprint."""
    service = predictor_service()
    (outcome,) = await ask_all(service, [{"instances": [STATE, STATE]}])

    document = orjson.loads(service.v1_body(outcome.result))
    response = service.v2_response(outcome.result)

    assert np.array(document["predictions"]).shape == (2, 5)
    assert response.model_version == service.version == VERSION
    assert set(response.parameters) == {"model_version", "fingerprint"}


@pytest.mark.parametrize("rows", [0, 11])
def test_too_few_and_too_many_rows_are_refused_in_v2_as_well(rows: int) -> None:
    """The limit of rows is the same in every protocol."""
    service = predictor_service(max_rows=10)

    with pytest.raises(InvalidRequest, match=r"^state: expected at (least one|most 10) row"):
        service.parse_v2({"state": np.zeros((rows, 11), dtype=np.float32)})
