"""`bench profile`: where the CPU time of one request goes, from samples of both processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson

from bench.load import run_wrk
from bench.measure import Options, check, entry, prepare
from bench.payloads import Form
from bench.plan import Workload
from bench.processes import ProcessSpec, Server, ServerFailedError, cpu_seconds, running, settle
from bench.records import Profile
from bench.stages import stage_times
from bench.systems import OURS, Side, launch

_SECONDS: Final = 5
_WRITTEN_DEADLINE_S: Final = 10.0
_WORKLOADS: Final = (
    Workload(side=Side.PAIR, form=Form.NAMED, rows=1, connections=1),
    Workload(side=Side.PAIR, form=Form.NAMED, rows=1, connections=64),
    Workload(side=Side.PAIR, form=Form.NAMED, rows=1000, connections=16),
    Workload(side=Side.PREDICTOR, form=Form.ARRAYS, rows=1, connections=64),
    Workload(side=Side.PREDICTOR, form=Form.V2_BINARY, rows=1000, connections=16),
)


def run_profile(options: Options) -> tuple[Profile, ...]:
    """Sample ours under each workload.

    Raises:
        ServerFailedError: A process ended, or wrote no samples.
        WrongAnswerError: An answer is wrong.
        LoadFailedError: The generator failed.
    """
    return tuple(profile for each in _WORKLOADS for profile in _profile(each, options))


def _profile(workload: Workload, options: Options) -> list[Profile]:
    requests = prepare(workload, options)
    specs = launch(OURS, options.model_file).specs
    files = [options.scratch / f"{spec.name}.samples" for spec in specs]
    for file in files:
        file.unlink(missing_ok=True)
    sampled = [_sampled(spec, file) for spec, file in zip(specs, files, strict=True)]
    with running(sampled, options.scratch) as servers:
        asked = entry(servers, workload.side)
        check(asked, workload, requests)
        port = asked[-1].spec.port
        run_wrk(port, requests.file, connections=workload.connections, seconds=1)
        settle(asked)
        before = _begin(asked)
        load = run_wrk(port, requests.file, connections=workload.connections, seconds=_SECONDS)
        spent = [
            cpu_seconds(server.pid) - start for server, start in zip(asked, before, strict=True)
        ]
        stacks = [_end(server, file) for server, file in zip(asked, files, strict=False)]
    options.say(f"profiled: {workload.title}")
    return [
        Profile(
            workload=workload.title,
            process=server.spec.name,
            rate=load.rate,
            samples=sum(counts.values()),
            cpu_us=seconds / load.requests * 1e6,
            stages_us=stage_times(counts, seconds / load.requests * 1e6),
        )
        for server, seconds, counts in zip(asked, spent, stacks, strict=True)
    ]


def _sampled(spec: ProcessSpec, file: Path) -> ProcessSpec:
    """The same process with the sampler around it."""
    _, module, *rest = spec.arguments
    return replace(spec, arguments=("-m", "bench.sampler", str(file), module, *rest))


def _begin(servers: Sequence[Server]) -> list[float]:
    for server in servers:
        os.kill(server.pid, signal.SIGUSR1)
    return [cpu_seconds(server.pid) for server in servers]


def _end(server: Server, file: Path) -> dict[str, int]:
    os.kill(server.pid, signal.SIGUSR2)
    deadline = time.perf_counter() + _WRITTEN_DEADLINE_S
    while not file.exists():
        if time.perf_counter() > deadline:
            msg = f"{server.spec.name}: expected samples after SIGUSR2, got none"
            raise ServerFailedError(msg)
        time.sleep(0.01)
    stacks: dict[str, int] = orjson.loads(file.read_bytes())
    return stacks
