"""`bench overload`: arrivals at twice the capacity for a minute, whether answers come or not.

Arrivals keep to a timetable, over as many connections as a fleet behind a Service might hold; one
that is due while all are busy is counted as unsent. Two generator processes share the load, because
one would be the bottleneck. What they saw is judged by pure functions over the due time, the answer
time and the status of every request.

An answer and a refusal are work of the same event loop. So twice the capacity can be met only while
a refusal costs less than half of an answer; both costs are measured first and stand beside the
result. For single rows the two are close, for requests of 100 rows they are far apart.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import uvloop

from bench.analysis import join, judge
from bench.client import OpenLoop, Phase, Trace
from bench.load import LoadFailedError, read_requests, run_wrk
from bench.measure import Options, Requests, check, prepare
from bench.payloads import Form
from bench.plan import Workload
from bench.processes import ROOT, Server, cpu_seconds, running, settle
from bench.records import Overload
from bench.systems import OURS, Side, launch

GENERATORS: Final = 2
CONNECTIONS: Final = 1024
"""Of both generators together; more than the service may have in its queues, or none is refused."""
NORMAL_SHARE: Final = 0.5
"""Load before and after the overload, as a share of the capacity."""
_CAPACITY_LOADS: Final = (64, 64, 256, 256)
"""Connections of the closed loops; the fastest of them is the capacity."""
_GRACE_S: Final = 30.0
_CLOSED_S: Final = 3
"""Length of one closed loop."""
_WORKLOADS: Final = tuple(
    (Workload(side=Side.PAIR, form=Form.NAMED, rows=rows, connections=64), share)
    for rows, share in ((1, 1.0), (100, 0.5))
)
"""What is sent, and for which share of the time: the second queue fills a hundred times sooner."""


def run_overload(options: Options, *, seconds: float) -> tuple[Overload, ...]:
    """Measure the capacity of ours, then offer twice as much; one result for each workload.

    Raises:
        ServerFailedError: A process ended.
        WrongAnswerError: An answer before the load is wrong.
        LoadFailedError: A generator failed.
    """
    return tuple(_overload(workload, options, seconds * share) for workload, share in _WORKLOADS)


def _overload(workload: Workload, options: Options, seconds: float) -> Overload:
    requests = prepare(workload, options)
    refusal_us = _refusal_us(requests, options)
    with running(launch(OURS, options.model_file).specs, options.scratch) as servers:
        check(servers, workload, requests)
        transformer = servers[-1]
        loops = [_closed_loop(transformer, requests, count) for count in _CAPACITY_LOADS]
        capacity, answer_us = max(loops)
        options.say(
            f"{workload.title}: capacity {capacity:.0f} requests/s, an answer {answer_us:.0f} µs,"
            f" a refusal {refusal_us:.0f} µs; overload begins"
        )
        settle(servers)
        normal = Phase(rate=NORMAL_SHARE * capacity, seconds=5.0)
        phases = (normal, Phase(rate=2 * capacity, seconds=seconds), normal)
        trace, generator_cores = _generate(
            transformer.spec.port, requests.file, phases, options.scratch
        )
    rows = "single rows" if workload.rows == 1 else f"{workload.rows} rows a request"
    return judge(
        trace,
        phases,
        workload=rows,
        capacity=capacity,
        costs_us=(answer_us, refusal_us),
        generator_cores=generator_cores,
    )


def _closed_loop(transformer: Server, requests: Requests, connections: int) -> tuple[float, float]:
    """Good answers per second, and CPU time of the transformer for each request in µs."""
    before = cpu_seconds(transformer.pid)
    load = run_wrk(transformer.spec.port, requests.file, connections=connections, seconds=_CLOSED_S)
    spent = cpu_seconds(transformer.pid) - before
    return load.rate, spent / max(load.requests, 1) * 1e6


def _refusal_us(requests: Requests, options: Options) -> float:
    """CPU time for a request where one may wait, so that nearly all are refused."""
    predictor, transformer = launch(OURS, options.model_file).specs
    narrow = replace(transformer, environ=(("NIMBUSGUARD_MAX_WAITING", "1"),))
    with running((predictor, narrow), options.scratch) as servers:
        return _closed_loop(servers[-1], requests, _CAPACITY_LOADS[-1])[1]


def _generate(
    port: int, requests_file: Path, phases: tuple[Phase, Phase, Phase], scratch: Path
) -> tuple[Trace, float]:
    """Run the generator processes together and join what they saw."""
    start_at = time.monotonic() + 3.0
    job = {
        "port": port,
        "requests": str(requests_file),
        "connections": CONNECTIONS // GENERATORS,
        "start_at": start_at,
        "phases": [[phase.rate / GENERATORS, phase.seconds] for phase in phases],
    }
    files = [scratch / f"overload-{number}.npz" for number in range(GENERATORS)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.overload", orjson.dumps(job | {"out": str(file)})],
            cwd=ROOT,
        )
        for file in files
    ]
    total = sum(phase.seconds for phase in phases)
    cores = 0.0
    try:
        time.sleep(max(start_at + phases[0].seconds - time.monotonic(), 0.0))
        before = [cpu_seconds(process.pid) for process in processes]
        time.sleep(phases[1].seconds)
        after = [cpu_seconds(process.pid) for process in processes]
        cores = max(b - a for a, b in zip(before, after, strict=True)) / phases[1].seconds
        for process in processes:
            if process.wait(total + _GRACE_S + 30.0) != 0:
                msg = f"a generator ended with status {process.returncode}"
                raise LoadFailedError(msg)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    return join([_read(file) for file in files]), cores


def _read(file: Path) -> Trace:
    with np.load(file) as arrays:
        return Trace(**{name: arrays[name] for name in arrays.files})


def _generator() -> None:
    """One generator process; the job is its only argument."""
    job = orjson.loads(sys.argv[1])
    phases = [Phase(rate=rate, seconds=seconds) for rate, seconds in job["phases"]]
    loop = OpenLoop(job["port"], read_requests(Path(job["requests"])), phases, gives_up=True)
    trace = uvloop.run(
        loop.run(connections=job["connections"], start_at=job["start_at"], grace_s=_GRACE_S)
    )
    np.savez(job["out"], **asdict(trace))


if __name__ == "__main__":
    _generator()
