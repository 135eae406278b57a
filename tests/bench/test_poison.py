"""How the poison part orders its runs and judges the answers it kept, without a server."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from bench.client import BROKEN, Trace
from bench.poison import Client, Keeper, Mix, Seen, is_refused, is_right, order_of

RIGHT = np.array([[0.5, -1.0, 2.0]])


def body_of(*q_values: float) -> bytes:
    return orjson.dumps({"predictions": [{"q_values": list(q_values)}]})


def trace_of(sent: int) -> Trace:
    return Trace(
        due_s=np.arange(sent, dtype=np.float64),
        done_s=np.full(sent, np.inf),
        status=np.zeros(sent, dtype=np.int16),
        accepted=np.zeros(sent, dtype=np.bool_),
    )


@pytest.mark.parametrize("number", range(6))
def test_a_steady_drift_of_the_machine_meets_every_mix_alike(number: int) -> None:
    """Each mix runs twice, and the mean of its two places is the middle of the round."""
    order = order_of(number)

    places = {mix: [place for place, each in enumerate(order) if each is mix] for mix in Mix}

    assert {mix: sum(found) / len(found) for mix, found in places.items()} == dict.fromkeys(
        Mix, (len(order) - 1) / 2
    )
    assert all(len(found) == 2 for found in places.values())


def test_every_mix_has_every_place_in_turn() -> None:
    """What follows a pause, or the middle, is no privilege of one of them."""
    assert {order_of(number)[0] for number in range(3)} == set(Mix)
    assert {order_of(number)[2] for number in range(3)} == set(Mix)


@pytest.mark.parametrize(
    ("status", "body", "right"),
    [
        (200, body_of(0.5, -1.0, 2.0), True),
        (200, body_of(0.5, -1.0, 2.00005), True),
        (200, body_of(0.5, -1.0, 2.01), False),
        (200, body_of(0.5, -1.0), False),
        (200, b'{"predictions":[]}', False),
        (200, b'{"predictions":[[1,2,3]]}', False),
        (200, b"<html>", False),
        (400, body_of(0.5, -1.0, 2.0), False),
        (BROKEN, b"", False),
    ],
)
def test_an_answer_is_right_if_it_is_what_torch_says(status: int, body: bytes, right: bool) -> None:
    """A body of any other form is wrong as well, and ends no run."""
    assert is_right([RIGHT])(0, status, body) is right


def test_every_wrong_answer_is_found_among_those_that_were_kept() -> None:
    """Of five requests one is right: another is wrong, refused, broken, or never answered."""
    keeper = Keeper()
    for status, body in (
        (200, body_of(0.5, -1.0, 2.0)),
        (200, body_of(9.0, -1.0, 2.0)),
        (400, b"{}"),
        (BROKEN, b""),
    ):
        assert keeper.keep(0, status, body)
    client = Client(requests=[b"one"], accept=is_right([RIGHT]))

    seen = Seen(client=client, trace=trace_of(5), answers=keeper.answers)

    assert (seen.sent, seen.right()) == (5, 1)


def test_a_poisonous_request_is_right_only_if_it_is_refused_with_400() -> None:
    """An answer 200 to ten features would be worse than none."""
    answers = [(0, status, b"") for status in (400, 200, 500, 503, BROKEN)]
    client = Client(requests=[b"one"], accept=is_refused)

    assert Seen(client=client, trace=trace_of(5), answers=answers).right() == 1
