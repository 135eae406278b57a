"""`bench observability`: what metrics and traces cost, as a share of throughput.

Three pairs take turns of a fraction of a second: one that records nothing, one with metrics as
shipped, one with metrics and traces of one request in a hundred to a collector. Every round starts
them anew and in another order, as two equal pairs differ by one or two percent for as long as they
live. So it takes rounds, not longer ones: the cost is the median of the ratios within twice as many
as the other parts have.
"""

from __future__ import annotations

import http.client
import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from typing import Final

from bench.load import LoadFailedError, run_wrk
from bench.measure import Options, Requests, check, measurement_of, prepare
from bench.payloads import Form
from bench.plan import Workload
from bench.processes import (
    ProcessSpec,
    Server,
    busy_cpu_seconds,
    cpu_seconds,
    free_ports,
    running,
    settle,
)
from bench.records import Measurement, Observed
from bench.systems import OURS, Side, launch
from bench.turns import take_turns

_ROUNDS: Final = 2
"""For one of the other parts."""
_TURNS: Final = {1: 24, 1000: 6}
"""Of each pair in a round, by rows: each of the six orders equally often."""
_TURN_S: Final = {1: 0.25, 1000: 1.0}
"""Length of a turn, by rows: 64 of 8,000 requests, or 16 of 350, are under way at its end."""
_WARM_UP_S: Final = 2
_RATIO: Final = "0.01"
_WORKLOADS: Final = (
    Workload(side=Side.PAIR, form=Form.NAMED, rows=1, connections=64),
    Workload(side=Side.PAIR, form=Form.NAMED, rows=1000, connections=16),
)


class Pair(Enum):
    """One transformer with its predictor."""

    SILENT = "nothing recorded"
    METRICS = "metrics"
    TRACED = "metrics, and traces of 1 %"


Rounds = dict[Workload, dict[Pair, list[Measurement]]]


def run_observability(options: Options) -> tuple[Observed, ...]:
    """Measure the three pairs beside each other; one result for each workload.

    Raises:
        ServerFailedError: A process ended.
        WrongAnswerError: An answer before the load is wrong.
        LoadFailedError: The generator failed, or no trace arrived.
    """
    with ExitStack() as stack:
        http_port, grpc_port = free_ports(2)
        (collector,) = stack.enter_context(
            running([_collector(http_port, grpc_port)], options.scratch)
        )
        endpoint = f"http://127.0.0.1:{grpc_port}"
        rounds: Rounds = {workload: defaultdict(list) for workload in _WORKLOADS}
        orders = itertools.cycle(itertools.permutations(Pair))
        for order in itertools.islice(orders, _ROUNDS * options.rounds):
            _measure(rounds, order, options, endpoint)
        exports = _exports(collector)
    if not exports:
        message = "expected traces at the collector, none arrived"
        raise LoadFailedError(message)
    return tuple(
        Observed(
            workload=workload.title,
            silent=tuple(measured[Pair.SILENT]),
            metrics=tuple(measured[Pair.METRICS]),
            traced=tuple(measured[Pair.TRACED]),
        )
        for workload, measured in rounds.items()
    )


def _measure(rounds: Rounds, order: Sequence[Pair], options: Options, endpoint: str) -> None:
    """One round of each workload, with processes of its own, started and loaded in this order."""
    with ExitStack() as stack:
        pairs = {
            pair: stack.enter_context(running(_specs(pair, options, endpoint), options.scratch))
            for pair in order
        }
        for workload, measured in rounds.items():
            requests = prepare(workload, options)
            for servers in pairs.values():
                check(servers, workload, requests)
                port = servers[-1].spec.port
                connections = workload.connections
                run_wrk(port, requests.file, connections=connections, seconds=_WARM_UP_S)
            for pair, measurement in zip(pairs, _round(workload, pairs, requests), strict=True):
                measured[pair].append(measurement)
            shown = ", ".join(f"{pair.value} {measured[pair][-1].rate:.0f}" for pair in Pair)
            options.say(f"{workload.title}, requests/s: {shown}")


def _round(
    workload: Workload, pairs: dict[Pair, list[Server]], requests: Requests
) -> list[Measurement]:
    """All pairs in turns; what else was busy on the machine is said of the whole round."""
    everything = [server for servers in pairs.values() for server in servers]
    settle(everything)
    before = {server.pid: cpu_seconds(server.pid) for server in everything}
    busy_before, began = busy_cpu_seconds(), time.perf_counter()
    loads = take_turns(
        [servers[-1].spec.port for servers in pairs.values()],
        requests.file,
        connections=workload.connections,
        turns=_TURNS[workload.rows],
        turn_s=_TURN_S[workload.rows],
    )
    elapsed, busy = time.perf_counter() - began, busy_cpu_seconds() - busy_before
    spent = {pid: cpu_seconds(pid) - start for pid, start in before.items()}
    mine = sum(spent.values()) + sum(load.generator_cores * load.seconds for load in loads)
    other_cores = max(busy - mine, 0.0) / elapsed
    return [
        measurement_of(load, [spent[server.pid] for server in servers], other_cores=other_cores)
        for servers, load in zip(pairs.values(), loads, strict=True)
    ]


def _specs(pair: Pair, options: Options, endpoint: str) -> list[ProcessSpec]:
    specs = launch(OURS, options.model_file).specs
    if pair is Pair.SILENT:
        return [
            replace(spec, arguments=("-m", "bench.unobserved", *spec.arguments[1:]))
            for spec in specs
        ]
    if pair is Pair.METRICS:
        return list(specs)
    environ = (
        ("NIMBUSGUARD_TRACING_ENDPOINT", endpoint),
        ("NIMBUSGUARD_TRACING_RATIO", _RATIO),
    )
    return [replace(spec, environ=environ) for spec in specs]


def _collector(http_port: int, grpc_port: int) -> ProcessSpec:
    ports = ("--http_port", str(http_port), "--grpc_port", str(grpc_port))
    return ProcessSpec(
        name="collector",
        arguments=("-m", "bench.collector", *ports),
        port=http_port,
        ready_path="/",
    )


def _exports(collector: Server) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", collector.spec.port, timeout=5)
    try:
        connection.request("GET", "/")
        return int(connection.getresponse().read())
    finally:
        connection.close()
