"""Servers killed, stopped and frozen under load: every accepted request gets exactly one answer."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from model_store.packaged import packaged_path
from tests.service.load import End, Load, running_load
from tests.service.processes import (
    MODEL,
    VERSION,
    Server,
    clean_environ,
    command,
    end,
    running,
    until,
)

pytestmark = pytest.mark.service

PREDICT = f"/v1/models/{MODEL}:predict"
READY = f"/v1/models/{MODEL}"
STATE = json.dumps({"instances": [[0.5] * 11]}).encode()
METRICS = json.dumps({"instances": [[0.9, 0.5, 1e3, 80, 4, 0.1, 0, 3, 0.1, 0.4, 0.5]]}).encode()
DEADLINE_S = 2.0
SLACK_S = 1.5
"""For a machine that does other things: an answer may be this much later than promised."""


class Pair(NamedTuple):
    """A transformer and the predictor behind it."""

    transformer: Server
    predictor: Server


@pytest.fixture(params=["v2", "grpc-v2"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """A pair of its own for each test: these tests break it."""
    with ExitStack() as stack:
        predictor = stack.enter_context(running("predictor", tmp_path / "predictor.jsonl"))
        port = predictor.http_port if request.param == "v2" else predictor.grpc_port
        transformer = stack.enter_context(
            running(
                "transformer",
                tmp_path / "transformer.jsonl",
                f"--predictor_host=127.0.0.1:{port}",
                f"--predictor_protocol={request.param}",
            )
        )
        yield Pair(transformer, predictor)


async def _until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Poll without blocking the load."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > timeout_s:
            pytest.fail(f"expected within {timeout_s:g} s: {what}")
        await asyncio.sleep(0.02)


async def _status(url: str) -> int:
    async with httpx.AsyncClient(timeout=5.0) as client:
        return (await client.get(url)).status_code


def _answers(load: Load, status: int) -> int:
    return sum(outcome.status == status for outcome in load.outcomes)


async def test_a_killed_predictor_costs_503_and_nothing_else(pair: Pair, tmp_path: Path) -> None:
    """SIGKILL under load: 503 with Retry-After inside the deadline; 200 again after its return."""
    transformer, predictor = pair
    async with running_load(transformer.http_port, PREDICT, METRICS, connections=16) as load:
        await _until(lambda: _answers(load, 200) > 100, "answers before the kill")
        predictor.process.send_signal(signal.SIGKILL)
        killed = time.perf_counter()
        await asyncio.to_thread(predictor.process.wait)
        while await _status(transformer.url + READY) == 200:
            assert time.perf_counter() - killed < 1.0 + SLACK_S, "readiness follows in a second"
        assert await _status(transformer.url + "/v2/health/live") == 200
        await _until(lambda: _answers(load, 503) > 100, "answers while it is gone")

        ports = (f"--http_port={predictor.http_port}", f"--grpc_port={predictor.grpc_port}")
        again = running("predictor", tmp_path / "again.jsonl", *ports)  # later flags win
        with ExitStack() as stack:
            # In a thread: the load has to go on while it starts.
            await asyncio.to_thread(stack.enter_context, again)
            back = time.perf_counter()
            await _until(
                lambda: sum(outcome.status == 200 for outcome in load.since(back)) > 100,
                "answers after its return",
            )
            load.is_over = True

    assert load.count(End.ANSWERED) == len(load.outcomes)
    assert {outcome.status for outcome in load.outcomes} == {200, 503}
    for outcome in load.outcomes:
        assert outcome.took_s < DEADLINE_S + SLACK_S
        assert (outcome.retry_after == "1") == (outcome.status == 503)


async def test_a_frozen_predictor_costs_504_and_nothing_else(pair: Pair) -> None:
    """SIGSTOP under load: 504 at the deadline; 200 again once it runs."""
    transformer, predictor = pair
    async with running_load(transformer.http_port, PREDICT, METRICS, connections=8) as load:
        await _until(lambda: _answers(load, 200) > 50, "answers before")
        predictor.process.send_signal(signal.SIGSTOP)
        try:
            await _until(lambda: _answers(load, 504) >= 8, "answers while it is frozen")
        finally:
            predictor.process.send_signal(signal.SIGCONT)
        awake = time.perf_counter()
        await _until(
            lambda: sum(outcome.status == 200 for outcome in load.since(awake)) > 50,
            "answers once it runs",
        )

    assert load.count(End.ANSWERED) == len(load.outcomes)
    assert {outcome.status for outcome in load.outcomes} <= {200, 503, 504}
    assert max(outcome.took_s for outcome in load.outcomes) < DEADLINE_S + SLACK_S


@pytest.mark.parametrize("stopped", ["transformer", "predictor"])
async def test_a_stopped_server_answers_all_that_it_accepted(stopped: str, tmp_path: Path) -> None:
    """SIGTERM under load: nothing accepted is lost, and the exit status is 0."""
    with ExitStack() as stack:
        predictor = stack.enter_context(running("predictor", tmp_path / "predictor.jsonl"))
        flag = f"--predictor_host=127.0.0.1:{predictor.http_port}"
        transformer = stack.enter_context(
            running("transformer", tmp_path / "transformer.jsonl", flag)
        )
        server, body = (transformer, METRICS) if stopped == "transformer" else (predictor, STATE)
        async with running_load(server.http_port, PREDICT, body, connections=32) as load:
            await _until(lambda: _answers(load, 200) > 500, "answers before")
            server.process.terminate()
            await _until(lambda: server.process.poll() is not None, "it ends", 40.0)
            await _until(lambda: load.count(End.REFUSED) > 0, "connections are refused")

    assert server.process.returncode == 0
    assert load.count(End.BROKEN) == 0
    assert {o.status for o in load.outcomes if o.end is End.ANSWERED} == {200}
    assert [line["message"] for line in server.log()][-1] == "stopped"


@pytest.mark.parametrize("file", ["model.pt", "metadata.json"])
def test_a_damaged_version_stops_the_start_and_is_named(file: str, tmp_path: Path) -> None:
    """One changed byte: the predictor does not come up; its last line says which file and why."""
    version = tmp_path / VERSION
    shutil.copytree(packaged_path() / MODEL / VERSION, version)
    content = bytearray((version / file).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (version / file).write_bytes(content)

    log = tmp_path / "log.jsonl"
    status = _run_until_it_ends(log, {"MODEL_DIR": str(version)})

    last = json.loads(log.read_text().splitlines()[-1])
    assert status == 1
    assert last["level"] == "critical"
    assert file in last["message"]


def _run_until_it_ends(log: Path, environ: dict[str, str]) -> int:
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command("predictor", "--http_port=0", "--grpc_port=0"),
            stderr=sink,
            stdin=subprocess.DEVNULL,
            env=clean_environ(environ),
            cwd=log.parent,
        )
    try:
        until(lambda: process.poll() is not None, "the predictor gives up")
    finally:
        status = end(process)
    return status
