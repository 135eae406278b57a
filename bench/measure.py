"""The side-by-side run: start, check every answer, then time the systems in turn, by rounds."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.expected import ask, check_answer, direct_q_values
from bench.load import Load, run_wrk, write_requests
from bench.payloads import Body, draw_rows, http_request, render
from bench.plan import (
    BODIES,
    WARM_UP_CONNECTIONS,
    Turn,
    Workload,
    systems_of,
    waiting_rows,
)
from bench.processes import Server, busy_cpu_seconds, cpu_seconds, resident_mib, running, settle
from bench.records import Cell, Measurement, ProcessRecord, Table
from bench.systems import Side, System, launch
from nimbusguard.contract.normalization import normalize

SEED: Final = 11
_WARM_UP_S: Final = 1
_STARTS: Final = 3
"""Starts of each system at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and where."""

    rounds: int
    seconds: int
    """Length of one measurement."""
    model_file: Path
    scratch: Path
    """A directory for request files and logs."""
    say: Callable[[str], None]
    """Where progress goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """The bodies of one workload, ready to be sent."""

    file: Path
    bodies: tuple[Body, ...]
    q_values: tuple[NDArray[np.float64], ...]
    """The right answers, one (B, A) for each body."""


def prepare(workload: Workload, options: Options) -> Requests:
    """Draw rows, compute their answers with torch and write the request file."""
    rng = np.random.default_rng(SEED)
    raw = [draw_rows(rng, workload.rows) for _ in range(BODIES[workload.rows])]
    form, tensor = workload.form, workload.side.tensor
    values = [_seen(workload.side, rows) for rows in raw]
    bodies = tuple(render(form, tensor, rows) for rows in values)
    file = options.scratch / f"{tensor}-{form.name}-{workload.rows}.requests"
    write_requests(file, [http_request(form.path, body) for body in bodies])
    answers = tuple(direct_q_values(options.model_file, rows) for rows in raw)
    return Requests(file=file, bodies=bodies, q_values=answers)


def _seen(side: Side, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    return raw if side is Side.PAIR else normalize(raw).state.astype(np.float64)


def entry(servers: Sequence[Server], side: Side) -> list[Server]:
    """The processes that a request passes, the first of them last."""
    return list(servers) if side is Side.PAIR else list(servers[:1])


def check(servers: Sequence[Server], workload: Workload, requests: Requests) -> None:
    """Ask every body once and compare with torch.

    Raises:
        WrongAnswerError: One answer is not right.
    """
    port = servers[-1].spec.port
    for body, q_values in zip(requests.bodies, requests.q_values, strict=True):
        answer = ask(port, workload.form, body)
        check_answer(answer, q_values, f"{servers[-1].spec.name}, {workload.title}")


def measure(
    servers: Sequence[Server], requests_file: Path, *, connections: int, seconds: int
) -> Measurement:
    """Load one system and read what it cost."""
    settle(servers)
    pids = [server.pid for server in servers]
    before = [cpu_seconds(pid) for pid in pids]
    busy_before, started = busy_cpu_seconds(), time.perf_counter()
    load = run_wrk(servers[-1].spec.port, requests_file, connections=connections, seconds=seconds)
    elapsed = time.perf_counter() - started
    busy = busy_cpu_seconds() - busy_before
    spent = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    mine = sum(spent) + load.generator_cores * elapsed
    return measurement_of(load, spent, other_cores=max(busy - mine, 0.0) / elapsed)


def measurement_of(load: Load, spent_s: Sequence[float], *, other_cores: float) -> Measurement:
    """What a load saw, and what it cost.

    Args:
        load: One system's.
        spent_s: CPU seconds of each process of the system.
        other_cores: CPU seconds per second of everything else on the machine.
    """
    return Measurement(
        rate=load.rate,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        errors=load.errors,
        cpu_us=sum(spent_s) / max(load.requests, 1) * 1e6,
        server_cores=max(spent_s) / load.seconds,
        generator_cores=load.generator_cores,
        other_cores=other_cores,
    )


def run_table(plan: Sequence[Turn], options: Options) -> Table:
    """Measure a whole plan; ours may queue all the rows that the plan offers at once.

    Raises:
        ServerFailedError: A system did not start.
        WrongAnswerError: A system's answers are not those of torch.
        LoadFailedError: The load generator failed.
    """
    systems, limit = systems_of(plan), waiting_rows(plan)
    ready = measure_start_up(systems, options)
    rounds: dict[tuple[Workload, System], list[Measurement]] = defaultdict(list)
    with ExitStack() as stack:
        servers = {
            system: stack.enter_context(
                running(
                    launch(system, options.model_file, max_waiting_rows=limit).specs,
                    options.scratch,
                )
            )
            for system in systems
        }
        requests = _check_all(plan, servers, options)
        measured, total = 0, options.rounds * sum(len(turn.systems) for turn in plan)
        for number in range(1, options.rounds + 1):
            for turn in plan:
                for system in turn.systems:
                    measurement = measure(
                        entry(servers[system], turn.workload.side),
                        requests[turn.workload].file,
                        connections=turn.workload.connections,
                        seconds=options.seconds,
                    )
                    rounds[turn.workload, system].append(measurement)
                    measured += 1
                    done = f"{measured} of {total}, round {number}"
                    options.say(f"{done}  {_progress(turn.workload, system, measurement)}")
        processes = tuple(
            ProcessRecord(
                system=system,
                name=server.spec.name,
                ready_s=tuple(ready[system][server.spec.name]),
                resident_mib=resident_mib(server.pid),
                peak_mib=resident_mib(server.pid, "VmHWM"),
            )
            for system in systems
            for server in servers[system]
        )
    cells = tuple(
        Cell(workload=workload, system=system, rounds=tuple(measurements))
        for (workload, system), measurements in rounds.items()
    )
    return Table(cells=cells, processes=processes, max_waiting_rows=limit)


def measure_start_up(
    systems: Sequence[System], options: Options
) -> dict[System, dict[str, list[float]]]:
    """Start and end every system alone, a few times; seconds to ready of each process."""
    ready: dict[System, dict[str, list[float]]] = {system: defaultdict(list) for system in systems}
    for _ in range(min(options.rounds, _STARTS)):
        for system in systems:
            specs = launch(system, options.model_file).specs
            with running(specs, options.scratch) as servers:
                for server in servers:
                    ready[system][server.spec.name].append(server.ready_s)
    options.say("start-up measured")
    return ready


def _check_all(
    plan: Sequence[Turn], servers: dict[System, list[Server]], options: Options
) -> dict[Workload, Requests]:
    """Check every answer, and warm every system up with every kind of request."""
    requests: dict[Workload, Requests] = {}
    warm: set[tuple[Path, System]] = set()
    for turn in plan:
        prepared = requests[turn.workload] = prepare(turn.workload, options)
        for system in turn.systems:
            asked = entry(servers[system], turn.workload.side)
            if (prepared.file, system) in warm:
                continue  # the same requests over other connections
            warm.add((prepared.file, system))
            if system is not System.CONST:
                check(asked, turn.workload, prepared)
            run_wrk(
                asked[-1].spec.port,
                prepared.file,
                connections=WARM_UP_CONNECTIONS,
                seconds=_WARM_UP_S,
            )
    options.say("every answer equals torch called directly; warmed up")
    return requests


def _progress(workload: Workload, system: System, measured: Measurement) -> str:
    return (
        f"{workload.title}  {system.value}: {measured.rate:.0f} requests/s, "
        f"p50 {measured.p50_ms:.2f} ms, p99 {measured.p99_ms:.2f} ms, errors {measured.errors}"
    )
