"""`bench ray`: the predictor on Ray with one and with two replicas, and the plain one beside it.

One real cluster of two nodes with a core each; the application is started on it through the entry
point that a RayService runs, with one replica and then with two, anew in every round. So nothing
but the cluster's own daemons is a neighbour of a measurement: two clusters side by side took half
a core from the replicas of each other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from bench.load import Load, run_wrk
from bench.measure import Options, Requests, check, prepare
from bench.payloads import MODEL, READY_PATH, Form
from bench.plan import Workload
from bench.processes import (
    ROOT,
    ProcessSpec,
    Server,
    ServerFailedError,
    busy_cpu_seconds,
    cpu_seconds,
    free_ports,
    running,
)
from bench.records import Ray, RayLoad
from bench.systems import OURS, Side, launch

_WORKLOAD: Final = Workload(side=Side.PREDICTOR, form=Form.ARRAYS, rows=1, connections=64)
_REPLICA: Final = "ray::ServeReplica"
_PROXY: Final = "haproxy"
_WARM_UP_S: Final = 1
_STOP_DEADLINE_S: Final = 60.0


def run_ray(options: Options) -> Ray:
    """Measure the three in turn, by rounds.

    Raises:
        ServerFailedError: The cluster or the application did not start.
        WrongAnswerError: An answer before the load is wrong.
        LoadFailedError: The generator failed.
    """
    loads: dict[int, list[RayLoad]] = defaultdict(list)
    requests = prepare(_WORKLOAD, options)
    environ = cluster_environ(free_ports(2))
    with (
        running(launch(OURS, options.model_file).specs[:1], options.scratch) as (plain,),
        cluster(environ, options.scratch / "cluster.log") as (address, root),
    ):
        _warm(plain, requests)
        for number in range(1, options.rounds + 1):
            loads[0].append(_measure(plain, plain.pid, requests, options.seconds))
            for replicas in (1, 2):
                spec = application(replicas, address, environ, options.model_file)
                with running([spec], options.scratch) as (driver,):
                    _warm(driver, requests)
                    loads[replicas].append(_measure(driver, root, requests, options.seconds))
            shown = ", ".join(f"{each[-1].rate:.0f}" for each in loads.values())
            options.say(f"round {number}: plain, one and two replicas: {shown} requests/s")
    return Ray(
        cores=os.cpu_count() or 1,
        plain=tuple(loads[0]),
        one=tuple(loads[1]),
        two=tuple(loads[2]),
    )


def cluster_environ(ports: list[int]) -> dict[str, str]:
    """What every process of a cluster finds; two free ports keep its HAProxy out of others' way."""
    return {
        "NIMBUSGUARD_HOST": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "RAY_raylet_start_wait_time_s": "100",  # a busy machine needs more than Ray's 30 s
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
    }


def application(
    replicas: int, address: str, environ: dict[str, str], model_file: Path
) -> ProcessSpec:
    """The driver of the application with so many replicas, neither more nor fewer."""
    model = (f"--model_name={MODEL}", f"--model_dir={model_file.parent}")
    http_port, grpc_port = free_ports(2)
    ports = (f"--http_port={http_port}", f"--grpc_port={grpc_port}")
    count = {f"NIMBUSGUARD_RAY_{end}_REPLICAS": str(replicas) for end in ("MIN", "MAX")}
    return ProcessSpec(
        name=f"ray-{replicas}",
        arguments=("-P", "-m", "predictor.ray_main", *model, *ports),
        port=http_port,
        ready_path=READY_PATH,
        environ=tuple((environ | count | {"RAY_ADDRESS": address}).items()),
    )


@contextmanager
def cluster(environ: dict[str, str], log: Path) -> Iterator[tuple[str, int]]:
    """A cluster of two nodes: its address, and the process that all others descend from.

    Raises:
        ServerFailedError: It did not start; the end of its log is in the message.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.ray_cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=dict(os.environ) | environ,
            cwd=ROOT,
        )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                tail = log.read_text(errors="replace")[-2000:]
                msg = f"the Ray cluster ended before it told its address; its log ends:\n{tail}"
                raise ServerFailedError(msg)
            yield str(orjson.loads(line)["address"]), process.pid
        finally:
            if process.stdin:
                process.stdin.close()  # it stops by itself, and takes its nodes along
            try:
                process.wait(_STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _warm(server: Server, requests: Requests) -> None:
    check([server], _WORKLOAD, requests)
    _load(server, requests, _WARM_UP_S)


def _load(server: Server, requests: Requests, seconds: int) -> Load:
    return run_wrk(
        server.spec.port, requests.file, connections=_WORKLOAD.connections, seconds=seconds
    )


def _measure(server: Server, root: int, requests: Requests, seconds: int) -> RayLoad:
    before, busy_before = spent_by_role(root), busy_cpu_seconds()
    load = _load(server, requests, seconds)
    busy, after = busy_cpu_seconds() - busy_before, spent_by_role(root)
    cores = {role: max(after[role] - before[role], 0.0) / load.seconds for role in after}
    known = sum(cores.values()) + load.generator_cores
    return RayLoad(
        rate=load.rate,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        errors=load.errors,
        replica_cores=cores["replicas"],
        proxy_cores=cores["proxy"],
        daemon_cores=cores["daemons"],
        generator_cores=load.generator_cores,
        other_cores=max(busy / load.seconds - known, 0.0),
    )


def spent_by_role(root: int) -> dict[str, float]:
    """CPU seconds of a process and all that descend from it, by what they do.

    A process without children that Ray named is the plain predictor, which counts as a replica.
    """
    pids = descendants(root, _parents())
    alone = len(pids) == 1
    spent = {"replicas": 0.0, "proxy": 0.0, "daemons": 0.0}
    for pid in pids:
        try:
            role = "replicas" if alone else role_of(Path(f"/proc/{pid}/cmdline").read_bytes())
            spent[role] += cpu_seconds(pid)
        except OSError:
            continue  # it has just ended
    return spent


def role_of(command_line: bytes) -> str:
    """What a process of the cluster does, from its command line."""
    name = command_line.decode(errors="replace")
    if name.startswith(_REPLICA):
        return "replicas"
    return "proxy" if Path(name.split("\0")[0]).name == _PROXY else "daemons"


def descendants(root: int, parents: dict[int, int]) -> list[int]:
    """A process and all below it.

    Args:
        root: Its id.
        parents: The parent of every process.
    """
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def _parents() -> dict[int, int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue  # it has just ended
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents
