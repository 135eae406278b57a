"""`bench poison`: one client in four sends rows of ten features; do the other three notice?

A round compares three mixes at the same rate over the same number of connections: four good
clients, three good ones with a poisonous one, and four good ones once more. The third over the
first is what chance alone makes of the ratio. Each mix runs twice, around the middle of the round,
as in clean, poisoned, again, again, poisoned, clean: a machine that gets slower all the while slows
each of them by the same. A p99 is that of both runs together. Rounds are short and many, because
one interruption of a few hundredths of a second is the p99 of a whole second; the median over the
rounds leaves it out.

The three clients are one process and the fourth is another, with a core each, as callers on other
machines have. A refusal comes at once and wakes whoever sent the row: on a core that it shares with
a server, that holds the server up before it has asked the predictor for the good rows, and in one
process with the three it holds up those who measure. Every answer beside the poisonous client is
compared with torch, after the run that it belongs to: a client that parses between two requests
queues behind itself.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
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
from bench.processes import Server, running, settle
from bench.records import Poison
from bench.systems import OURS, Side, launch
from nimbusguard.contract.features import STATE_DIM

CLIENTS: Final = 4
CONNECTIONS: Final = 16
"""Of each client."""
_SHARE: Final = 0.5
"""Of the capacity that the four clients use together: below it, p99 is not that of a full queue."""
_CLIENT_RATE: Final = 2400.0
"""Requests per second of all four, at which the process of three is busy an eighth of the time. At
6,000 its own queue was most of p99, and that scattered by a third between rounds."""
_ROUNDS: Final = 3
"""Times as many rounds as the table has."""
_CORES: Final = 4
"""One for each server and each process of clients."""
_CONNECT_S: Final = 0.3
_GRACE_S: Final = 5.0
_WORKLOAD: Final = Workload(side=Side.PAIR, form=Form.ARRAYS, rows=1, connections=64)


class Mix(Enum):
    """What the four clients send; the value is its name in progress lines."""

    CLEAN = "clean"
    POISONED = "poisoned"
    AGAIN = "clean again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What one client sends, and what it takes for a right answer."""

    requests: Sequence[bytes]
    accept: Callable[[int, int, bytes], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one client saw in one run of a mix."""

    client: Client
    trace: Trace
    answers: Sequence[tuple[int, int, bytes]]
    """Request, status and body of each answer, not looked at yet."""

    @property
    def sent(self) -> int:
        """Requests."""
        return len(self.trace.due_s)

    def right(self) -> int:
        """Requests that got the right answer; one without any answer did not."""
        return sum(self.client.accept(*answer) for answer in self.answers)


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Keeps answers to look at them later."""

    answers: list[tuple[int, int, bytes]] = field(default_factory=list)

    def keep(self, request: int, status: int, body: bytes) -> bool:
        """Take one answer; whether it is right stays open."""
        self.answers.append((request, status, body))
        return True


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
        try:
            answered = orjson.loads(body)["predictions"][0]["q_values"]
            pairs = zip(answered, expected[index], strict=True)
            return all(abs(got - right) <= TOLERANCE for got, right in pairs)
        except (ValueError, LookupError, TypeError):
            return False  # a body of another form

    return accept


def is_refused(_index: int, status: int, _body: bytes) -> bool:
    """A poisonous row is the caller's fault and nobody else's: 400."""
    return status == 400


def order_of(number: int) -> tuple[Mix, ...]:
    """The runs of a round: each mix twice, around the middle; which is outermost changes."""
    turn = number % len(Mix)
    mixes = tuple(Mix)
    first = mixes[turn:] + mixes[:turn]
    return first + first[::-1]


def run_poison(options: Options) -> Poison:
    """Run clean and poisoned mixes in turn on ours.

    Raises:
        ServerFailedError: A process ended.
        WrongAnswerError: An answer before the load is wrong.
        LoadFailedError: The generator that measures the capacity failed.
    """
    requests = prepare(_WORKLOAD, options)
    good = Client(requests=read_requests(requests.file), accept=is_right(requests.q_values))
    bad = Client(requests=poisonous_requests(), accept=is_refused)
    p99: dict[Mix, list[float]] = defaultdict(list)
    answers = right = refusals = poisonous = 0
    with fourth_client() as elsewhere, servers_apart(options) as servers:
        check(servers, _WORKLOAD, requests)
        port = servers[-1].spec.port
        capacity = run_wrk(port, requests.file, connections=64, seconds=4).rate
        rate = min(_SHARE * capacity, _CLIENT_RATE) / CLIENTS
        phase = Phase(rate=rate, seconds=float(options.seconds))
        for number in range(options.rounds * _ROUNDS):
            traces: dict[Mix, list[Trace]] = defaultdict(list)
            for mix in order_of(number):
                fourth = bad if mix is Mix.POISONED else good
                settle(servers)
                *three, last = side_by_side(
                    port, [good] * (CLIENTS - 1), phase, (fourth, elsewhere)
                )
                traces[mix] += [seen.trace for seen in three]
                if mix is Mix.POISONED:
                    answers += sum(seen.sent for seen in three)
                    right += sum(seen.right() for seen in three)
                    poisonous += last.sent
                    refusals += last.right()
            for mix in Mix:
                p99[mix].append(p99_ms(traces[mix]))
            shown = ", ".join(f"{p99[mix][-1]:.2f} {mix.value}" for mix in Mix)
            options.say(f"round {number + 1}: p99 in ms: {shown}")
    return Poison(
        rate=rate,
        answers=answers,
        wrong=answers - right,
        refusals=refusals,
        not_refused=poisonous - refusals,
        clean_p99_ms=tuple(p99[Mix.CLEAN]),
        poisoned_p99_ms=tuple(p99[Mix.POISONED]),
        again_p99_ms=tuple(p99[Mix.AGAIN]),
    )


@contextmanager
def servers_apart(options: Options) -> Iterator[list[Server]]:
    """Ours on all cores but the last two, which are left to the clients; with fewer, shared."""
    cores = sorted(os.sched_getaffinity(0))
    theirs, mine = (cores[:-2], cores[-2:-1]) if len(cores) >= _CORES else (cores, cores)
    try:
        os.sched_setaffinity(0, theirs)  # what is started now inherits it, with all its threads
        with running(launch(OURS, options.model_file).specs, options.scratch) as servers:
            os.sched_setaffinity(0, mine)
            yield servers
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def fourth_client() -> Iterator[Executor]:
    """A process for the fourth client, on the last core."""
    cores = sorted(os.sched_getaffinity(0))
    own = cores[-1:] if len(cores) >= _CORES else cores
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, os.sched_setaffinity, (0, own)) as executor:
        executor.submit(os.getpid).result()  # it is there before anything is measured
        yield executor


def side_by_side(
    port: int,
    clients: Sequence[Client],
    phase: Phase,
    elsewhere: tuple[Client, Executor] | None = None,
) -> list[Seen]:
    """Let clients send at the same rate at the same time, each over its own connections.

    Args:
        port: Of loopback.
        clients: In this process.
        phase: What each sends.
        elsewhere: One more client, and the process that it runs in; it is the last of the result.
    """
    start_at = time.monotonic() + _CONNECT_S  # a clock of the machine, not of a process
    last = None
    if elsewhere is not None:
        client, executor = elsewhere
        last = executor.submit(_send, port, [client.requests], phase, start_at)
    found = _send(port, [client.requests for client in clients], phase, start_at)
    if elsewhere is not None and last is not None:
        clients = [*clients, elsewhere[0]]
        found += last.result()
    return [
        Seen(client=client, trace=trace, answers=answers)
        for client, (trace, answers) in zip(clients, found, strict=True)
    ]


def _send(
    port: int, requests: Sequence[Sequence[bytes]], phase: Phase, start_at: float
) -> list[tuple[Trace, Sequence[tuple[int, int, bytes]]]]:
    """The requests of several clients from this process; what became of them, and the answers."""
    keepers = [Keeper() for _ in requests]

    async def run() -> list[Trace]:
        loops = [
            OpenLoop(port, each, (phase,), keeper.keep)
            for each, keeper in zip(requests, keepers, strict=True)
        ]
        runs = [
            loop.run(connections=CONNECTIONS, start_at=start_at, grace_s=_GRACE_S) for loop in loops
        ]
        return list(await asyncio.gather(*runs))

    with _collector_at_rest():
        traces = uvloop.run(run())
    return [(trace, keeper.answers) for trace, keeper in zip(traces, keepers, strict=True)]


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Without Python's cycle collector, so that none of its pauses falls into a run."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
