"""`bench poison`: one client in four sends rows of ten features; do the other three notice?

Each round is run twice: with four good clients, and with three good ones and a poisonous one, at
the same rate over the same number of connections. Every answer is compared with torch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from bench.analysis import p99_ms
from bench.client import OpenLoop, Phase, Trace
from bench.expected import TOLERANCE
from bench.load import read_requests, run_wrk
from bench.measure import SEED, Options, check, prepare
from bench.payloads import Form, draw_rows, http_request, render
from bench.plan import Workload
from bench.processes import running, settle
from bench.records import Poison
from bench.systems import OURS, Side, launch
from nimbusguard.contract.features import STATE_DIM

CLIENTS: Final = 4
CONNECTIONS: Final = 16
"""Of each client."""
_SHARE: Final = 0.5
"""Of the capacity that the four clients use together: below it, p99 is not that of a full queue."""
_CHECKED_RATE: Final = 2400.0
"""Requests per second at which the checking client, one Python process, is busy a quarter of the
time. At 6,000 its own queue was most of p99, and that scattered by a third between rounds."""
_LONGER: Final = 3
"""Rounds of this part are so many times as long: p99 needs the requests."""
_CONNECT_S: Final = 0.2
_GRACE_S: Final = 5.0
_WORKLOAD: Final = Workload(side=Side.PAIR, form=Form.ARRAYS, rows=1, connections=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What one client sends, and what it takes for a right answer."""

    requests: Sequence[bytes]
    accept: Callable[[int, int, bytes], bool]


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
        LoadFailedError: The generator that measures the capacity failed.
    """
    requests = prepare(_WORKLOAD, options)
    good = Client(requests=read_requests(requests.file), accept=is_right(requests.q_values))
    bad = Client(requests=poisonous_requests(), accept=is_refused)
    clean_p99: list[float] = []
    poisoned_p99: list[float] = []
    beside: list[Trace] = []
    refused: list[Trace] = []
    with running(launch(OURS, options.model_file).specs, options.scratch) as servers:
        check(servers, _WORKLOAD, requests)
        port = servers[-1].spec.port
        capacity = run_wrk(port, requests.file, connections=64, seconds=4).rate
        rate = min(_SHARE * capacity, _CHECKED_RATE) / CLIENTS
        phase = Phase(rate=rate, seconds=float(_LONGER * options.seconds))
        for number in range(1, options.rounds + 1):
            # Which half comes first changes with the round: the machine may drift within one.
            for poisoned in (number % 2 == 0, number % 2 == 1):
                settle(servers)
                fourth = bad if poisoned else good
                *traces, last = _side_by_side(port, [*[good] * (CLIENTS - 1), fourth], phase)
                (poisoned_p99 if poisoned else clean_p99).append(p99_ms(traces))
                if poisoned:
                    beside += traces
                    refused.append(last)
            options.say(
                f"round {number}: p99 {clean_p99[-1]:.2f} ms clean, {poisoned_p99[-1]:.2f} poisoned"
            )
    return Poison(
        rate=rate,
        answers=sum(len(trace.accepted) for trace in beside),
        wrong=sum(int((~trace.accepted).sum()) for trace in beside),
        refusals=sum(int(trace.accepted.sum()) for trace in refused),
        not_refused=sum(int((~trace.accepted).sum()) for trace in refused),
        clean_p99_ms=tuple(clean_p99),
        poisoned_p99_ms=tuple(poisoned_p99),
    )


def _side_by_side(port: int, clients: Sequence[Client], phase: Phase) -> list[Trace]:
    """Let clients send at the same rate at the same time, each over its own connections."""

    async def run() -> list[Trace]:
        start_at = time.monotonic() + _CONNECT_S
        loops = [OpenLoop(port, client.requests, (phase,), client.accept) for client in clients]
        runs = [
            loop.run(connections=CONNECTIONS, start_at=start_at, grace_s=_GRACE_S) for loop in loops
        ]
        return list(await asyncio.gather(*runs))

    return uvloop.run(run())
