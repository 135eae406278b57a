"""The harness against real servers on loopback: it must be right before its figures can be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import uvloop

from bench.__main__ import MODEL_FILE
from bench.client import BROKEN, UNSENT, OpenLoop, Phase, Trace, is_ok
from bench.expected import WrongAnswerError
from bench.load import read_requests, run_wrk
from bench.measure import Options, check, entry, measure, prepare
from bench.payloads import Form
from bench.plan import Workload, full_plan, waiting_rows
from bench.poison import (
    Client,
    fourth_client,
    is_refused,
    is_right,
    servers_apart,
    side_by_side,
)
from bench.processes import Server, running
from bench.systems import OURS, Side, System, launch
from bench.turns import paused, take_turns
from training.export import export_files
from training.network import NetworkConfig, QNetwork

pytestmark = pytest.mark.service


def write_model(path: Path, seed: int) -> Path:
    network = QNetwork(NetworkConfig(), torch.Generator().manual_seed(seed))
    path.write_bytes(export_files(network)[0]["model.pt"])
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    folder = tmp_path_factory.mktemp("bench")
    return Options(
        rounds=1,
        seconds=1,
        model_file=write_model(folder / "model.pt", seed=1),
        scratch=folder,
        say=lambda _: None,
    )


@pytest.fixture(scope="module")
def const(options: Options) -> Iterator[Server]:
    with running(launch(System.CONST, options.model_file).specs, options.scratch) as servers:
        yield servers[0]


def single(side: Side, form: Form) -> Workload:
    return Workload(side=side, form=form, rows=1, connections=4)


@pytest.mark.parametrize("system", [System.REFERENCE_REST, System.REFERENCE_GRPC, System.FORWARD])
def test_every_answer_of_a_system_is_that_of_torch(system: System, options: Options) -> None:
    """In every form it speaks, through the pair and at the predictor alone."""
    forms = [Form.NAMED, Form.ARRAYS]
    if system is System.REFERENCE_GRPC:
        forms += [Form.V2_JSON, Form.V2_BINARY]

    with running(launch(system, options.model_file).specs, options.scratch) as servers:
        for side in Side if len(servers) == 2 else (Side.PREDICTOR,):
            for form in forms:
                if side is Side.PREDICTOR and form is Form.NAMED:
                    continue
                workload = single(side, form)
                check(entry(servers, side), workload, prepare(workload, options))


@pytest.mark.parametrize("version", ["1", "5"])
def test_ours_serves_the_network_that_was_named(version: str, options: Options) -> None:
    """Whichever version serves by default."""
    named = replace(options, model_file=MODEL_FILE.parents[1] / version / MODEL_FILE.name)
    workload = single(Side.PAIR, Form.NAMED)

    with running(launch(OURS, named.model_file).specs, options.scratch) as servers:
        check(servers, workload, prepare(workload, named))


def test_the_answers_of_another_network_are_found_out(options: Options, tmp_path: Path) -> None:
    """A server with other weights never gets as far as being timed."""
    other = write_model(tmp_path / "other.pt", seed=2)
    workload = single(Side.PREDICTOR, Form.ARRAYS)
    requests = prepare(workload, options)

    with (
        running(launch(System.FORWARD, other).specs, options.scratch) as servers,
        pytest.raises(WrongAnswerError, match="differ from torch"),
    ):
        check(servers, workload, requests)


def test_a_measurement_reads_time_memory_and_errors(options: Options, const: Server) -> None:
    """The server is busy, the generator less so, and nothing fails."""
    requests = prepare(single(Side.PAIR, Form.NAMED), options)

    measured = measure([const], requests.file, connections=16, seconds=1)

    assert measured.errors == 0
    assert measured.rate > 100
    assert 0 < measured.p50_ms <= measured.p99_ms
    assert 0 < measured.generator_cores < 1.1
    assert measured.cpu_us * measured.rate / 1e6 == pytest.approx(measured.server_cores, rel=0.2)


def test_answers_that_are_not_2xx_are_errors(options: Options, tmp_path: Path) -> None:
    """A predictor that refuses quickly has a rate of zero."""
    workload = single(Side.PREDICTOR, Form.ARRAYS)
    bad = tmp_path / "bad.requests"
    requests = read_requests(prepare(workload, options).file)
    bad.write_bytes(
        b"".join(
            b"%010d" % len(request) + request
            for request in (each.replace(b"/v1/models/", b"/v9/models/") for each in requests)
        )
    )

    specs = launch(System.REFERENCE_GRPC, options.model_file).specs[:1]
    with running(specs, options.scratch) as servers:
        load = run_wrk(servers[0].spec.port, bad, connections=2, seconds=1)

    assert load.requests > 10
    assert load.errors == load.requests
    assert load.rate == 0


@pytest.mark.parametrize("raised", [True, False])
def test_the_largest_load_of_the_table_is_refused_by_the_shipped_limit_alone(
    raised: bool, options: Options
) -> None:
    """64 requests of 1,000 rows are more than may wait; with the table's limit all are answered."""
    workload = Workload(side=Side.PAIR, form=Form.V2_BINARY, rows=1000, connections=64)
    limit = waiting_rows(full_plan()) if raised else None
    requests = prepare(workload, replace(options, model_file=MODEL_FILE))

    specs = launch(OURS, MODEL_FILE, max_waiting_rows=limit).specs
    with running(specs, options.scratch) as servers:
        check(servers, workload, requests)
        load = run_wrk(servers[-1].spec.port, requests.file, connections=64, seconds=1)

    assert load.requests > load.errors
    assert (load.errors == 0) is raised


def test_an_open_loop_keeps_its_schedule(options: Options, const: Server) -> None:
    """Every request is sent, answered and timed from when it was due, on the loop that is used."""
    requests = read_requests(prepare(single(Side.PAIR, Form.NAMED), options).file)
    phases = (Phase(rate=500.0, seconds=0.6), Phase(rate=1500.0, seconds=0.4))

    async def run() -> Trace:
        loop = OpenLoop(const.spec.port, requests, phases)
        return await loop.run(connections=32, start_at=0.0, grace_s=5.0)

    trace = uvloop.run(run())

    assert len(trace.due_s) == 300 + 600
    assert (trace.status == 200).all()
    assert (trace.done_s >= trace.due_s).all()


class Script(asyncio.Protocol):
    """A server that does one thing for each request, and is closed with its connections."""

    def __init__(self, act: Callable[[asyncio.Transport], None], made: list[Script]) -> None:
        self.act = act
        self.transport: asyncio.Transport | None = None
        made.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.act(self.transport)


@asynccontextmanager
async def scripted(act: Callable[[asyncio.Transport], None]) -> AsyncIterator[int]:
    made: list[Script] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Script(act, made), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for each in made:
        if each.transport is not None:
            each.transport.abort()
    await asyncio.sleep(0)


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def test_a_slow_server_does_not_slow_an_open_loop_down() -> None:
    """Requests that found no free connection count the time they waited for one."""

    def act(transport: asyncio.Transport) -> None:
        asyncio.get_running_loop().call_later(0.02, transport.write, ANSWER)

    async with scripted(act) as port:
        trace = await OpenLoop(port, [b"one line\r\n"], (Phase(rate=200.0, seconds=0.5),)).run(
            connections=1, start_at=0.0, grace_s=10.0
        )

    latency = trace.done_s - trace.due_s
    assert (trace.status == 200).all()
    assert np.median(latency[-10:]) > 1.0


async def test_a_bounded_fleet_leaves_unsent_what_finds_no_connection() -> None:
    """The requests that were sent did not wait behind them, and every one is accounted for."""

    def act(transport: asyncio.Transport) -> None:
        asyncio.get_running_loop().call_later(0.1, transport.write, ANSWER)

    async with scripted(act) as port:
        loop = OpenLoop(port, [b"one line\r\n"], (Phase(rate=200.0, seconds=0.5),), gives_up=True)
        trace = await loop.run(connections=1, start_at=0.0, grace_s=10.0)

    sent = trace.status == 200
    assert sent.sum() >= 1
    assert (trace.status == UNSENT).sum() == 100 - sent.sum()
    assert sent.sum() <= 6
    assert np.isinf(trace.done_s[~sent]).all()


async def test_a_broken_connection_is_a_failed_request_and_is_replaced() -> None:
    """The server hangs up on every second request; the others are answered."""
    asked = 0

    def act(transport: asyncio.Transport) -> None:
        nonlocal asked
        asked += 1
        if asked % 2 == 0:
            transport.close()
        else:
            transport.write(ANSWER)

    async with scripted(act) as port:
        trace = await OpenLoop(port, [b"one line\r\n"], (Phase(rate=100.0, seconds=0.2),)).run(
            connections=2, start_at=0.0, grace_s=5.0
        )

    assert (trace.status == BROKEN).sum() == 10
    assert (trace.status == 200).sum() == 10


def test_answers_are_checked_after_the_load(options: Options, const: Server) -> None:
    """The constant answer is not what torch says, and not a refusal either."""
    prepared = prepare(single(Side.PAIR, Form.ARRAYS), options)
    requests = read_requests(prepared.file)
    checks = (is_right(prepared.q_values), is_refused, is_ok)
    clients = [Client(requests=requests, accept=each) for each in checks]

    phase = Phase(rate=200.0, seconds=0.3)
    with fourth_client() as elsewhere:
        seen = side_by_side(const.spec.port, clients, phase, (clients[-1], elsewhere))

    assert [each.sent for each in seen] == [60, 60, 60, 60]
    assert [each.right() for each in seen] == [0, 0, 60, 60]


def test_servers_leave_cores_to_the_clients(options: Options) -> None:
    """Where there are four: no two share one, and afterwards all is as before."""
    before = os.sched_getaffinity(0)
    enough = len(before) >= 4

    with (
        fourth_client() as elsewhere,
        servers_apart(replace(options, model_file=MODEL_FILE)) as servers,
    ):
        mine = os.sched_getaffinity(0)
        theirs = [os.sched_getaffinity(server.pid) for server in servers]
        fourth = elsewhere.submit(os.sched_getaffinity, 0).result()

    assert all(cores == (before - mine - fourth if enough else before) for cores in theirs)
    assert [len(mine), len(fourth)] == ([1, 1] if enough else [len(before)] * 2)
    assert mine != fourth or not enough
    assert os.sched_getaffinity(0) == before


def test_loads_take_turns_and_lose_nothing(const: Server, options: Options) -> None:
    """Each has its own seconds, and what waited while it stood still is an answer like others."""
    workload = single(Side.PREDICTOR, Form.ARRAYS)
    requests = prepare(workload, options)
    ports = [const.spec.port] * 3

    loads = take_turns(ports, requests.file, connections=4, turns=6, turn_s=0.1)

    assert len(loads) == 3
    for load in loads:
        assert load.requests > 100
        assert load.errors == 0
        assert 0.6 <= load.seconds < 1.2
        assert 0.0 < load.generator_cores <= 1.1


def test_a_generator_ends_with_its_block(const: Server, options: Options) -> None:
    """Also when nobody reads what it saw."""
    requests = prepare(single(Side.PREDICTOR, Form.ARRAYS), options)

    with (
        pytest.raises(ZeroDivisionError),
        paused(const.spec.port, requests.file, connections=1) as load,
    ):
        raise ZeroDivisionError

    assert load.process.returncode is not None
