"""`bench overload`: arrivals at twice the capacity for a minute, whether answers come or not.

Two generator processes share the load, because one would be the bottleneck. What they saw is
judged by pure functions over the due time, the answer time and the status of every request.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import uvloop

from bench.analysis import join, judge
from bench.client import OpenLoop, Phase, Trace
from bench.load import LoadFailedError, read_requests, run_wrk
from bench.measure import Options, check, prepare
from bench.payloads import Form
from bench.plan import Workload
from bench.processes import ROOT, cpu_seconds, running, settle
from bench.records import Overload
from bench.systems import OURS, Side, launch

GENERATORS: Final = 2
CONNECTIONS: Final = 1024
"""Of both generators together; more than the service may have in its queues."""
NORMAL_SHARE: Final = 0.5
"""Load before and after the overload, as a share of the capacity."""
_CAPACITY_LOADS: Final = (64, 64, 256, 256)
"""Connections of the closed loops; the fastest of them is the capacity."""
_GRACE_S: Final = 10.0
_WORKLOAD: Final = Workload(side=Side.PAIR, form=Form.NAMED, rows=1, connections=64)


def run_overload(options: Options, *, seconds: float) -> Overload:
    """Measure the capacity of ours, then offer twice as much.

    Raises:
        ServerFailedError: A process ended.
        WrongAnswerError: An answer before the load is wrong.
        LoadFailedError: A generator failed.
    """
    requests = prepare(_WORKLOAD, options)
    with running(launch(OURS, options.model_file).specs, options.scratch) as servers:
        check(servers, _WORKLOAD, requests)
        port = servers[-1].spec.port
        capacity = max(
            run_wrk(port, requests.file, connections=connections, seconds=4).rate
            for connections in _CAPACITY_LOADS
        )
        options.say(f"capacity {capacity:.0f} requests/s; overload begins")
        settle(servers)
        normal = Phase(rate=NORMAL_SHARE * capacity, seconds=5.0)
        phases = (normal, Phase(rate=2 * capacity, seconds=seconds), normal)
        trace, generator_cores = _generate(port, requests.file, phases, options.scratch)
    return judge(trace, phases, capacity=capacity, generator_cores=generator_cores)


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
    loop = OpenLoop(job["port"], read_requests(Path(job["requests"])), phases)
    trace = uvloop.run(
        loop.run(connections=job["connections"], start_at=job["start_at"], grace_s=_GRACE_S)
    )
    np.savez(job["out"], **asdict(trace))


if __name__ == "__main__":
    _generator()
