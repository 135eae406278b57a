"""`bench poison`: one client in four sends rows of ten features; do the other three notice?

Each round is run twice: with four good clients, and with three good ones and a poisonous one, at
the same number of connections. Every answer is compared with torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from bench.client import Caller, closed_loop
from bench.expected import TOLERANCE
from bench.load import read_requests
from bench.measure import SEED, Options, Requests, check, prepare
from bench.payloads import Form, draw_rows, http_request, render
from bench.plan import Workload
from bench.processes import running, settle
from bench.records import Poison
from bench.systems import OURS, Side, launch
from nimbusguard.contract.features import STATE_DIM

CLIENTS: Final = 4
CONNECTIONS: Final = 16
"""Of each client."""
_WORKLOAD: Final = Workload(side=Side.PAIR, form=Form.ARRAYS, rows=1, connections=64)


def poisonous_requests() -> list[bytes]:
    """Rows that lack their last feature."""
    rng = np.random.default_rng(SEED)
    rows = [draw_rows(rng, 1)[:, : STATE_DIM - 1] for _ in range(16)]
    bodies = [render(Form.ARRAYS, Side.PAIR.tensor, row) for row in rows]
    return [http_request(Form.ARRAYS.path, body) for body in bodies]


def is_right(q_values: Sequence[NDArray[np.float64]]) -> Callable[[int, int, bytes], bool]:
    """A check of single-row answers against the right Q-values, one (1, A) for each request."""
    expected = [values[0].tolist() for values in q_values]

    def accept(index: int, status: int, body: bytes) -> bool:
        if status != 200:
            return False
        answered = orjson.loads(body)["predictions"][0]["q_values"]
        pairs = zip(answered, expected[index], strict=True)
        return all(abs(got - right) <= TOLERANCE for got, right in pairs)

    return accept


def is_refused(_index: int, status: int, _body: bytes) -> bool:
    """A poisonous row is the caller's fault and nobody else's: 400."""
    return status == 400


def run_poison(options: Options) -> Poison:
    """Run clean and poisoned rounds in turn on ours.

    Raises:
        ServerFailedError: A process ended.
        WrongAnswerError: An answer before the load is wrong.
    """
    requests = prepare(_WORKLOAD, options)
    answers = wrong = refusals = not_refused = 0
    clean_p99: list[float] = []
    poisoned_p99: list[float] = []
    with running(launch(OURS, options.model_file).specs, options.scratch) as servers:
        check(servers, _WORKLOAD, requests)
        port = servers[-1].spec.port
        _round(port, requests, options.seconds, poisoned=False)
        for number in range(1, options.rounds + 1):
            settle(servers)
            good, _ = _round(port, requests, options.seconds, poisoned=False)
            clean_p99.append(_p99_ms(good))
            settle(servers)
            good, fourth = _round(port, requests, options.seconds, poisoned=True)
            poisoned_p99.append(_p99_ms(good))
            answers += sum(len(caller.latencies_s) for caller in good)
            wrong += sum(caller.wrong for caller in good)
            refusals += len(fourth.latencies_s) - fourth.wrong
            not_refused += fourth.wrong
            options.say(
                f"round {number}: p99 {clean_p99[-1]:.2f} ms clean, {poisoned_p99[-1]:.2f} poisoned"
            )
    return Poison(
        answers=answers,
        wrong=wrong,
        refusals=refusals,
        not_refused=not_refused,
        clean_p99_ms=tuple(clean_p99),
        poisoned_p99_ms=tuple(poisoned_p99),
    )


def _round(
    port: int, requests: Requests, seconds: int, *, poisoned: bool
) -> tuple[list[Caller], Caller]:
    accept = is_right(requests.q_values)
    sent = read_requests(requests.file)
    callers = [Caller(requests=sent, accept=accept, latencies_s=[]) for _ in range(CLIENTS)]
    if poisoned:
        callers[-1] = Caller(requests=poisonous_requests(), accept=is_refused, latencies_s=[])
    uvloop.run(closed_loop(port, callers, connections=CONNECTIONS, seconds=seconds))
    return callers[:-1], callers[-1]


def _p99_ms(callers: Sequence[Caller]) -> float:
    latencies = [latency for caller in callers for latency in caller.latencies_s]
    return float(np.percentile(latencies, 99)) * 1e3
