"""`bench observability`: what metrics and traces cost, as a share of throughput.

Three pairs take turns within a round: one that records nothing, one with metrics as shipped, one
with metrics and traces of one request in a hundred to a collector. Each round turns the order
around, and the cost is the median of the ratios within rounds, so that a machine that becomes
slower in between does not count.
"""

from __future__ import annotations

import http.client
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from typing import Final

from bench.load import LoadFailedError, run_wrk
from bench.measure import Options, Requests, check, measure, prepare
from bench.payloads import Form
from bench.plan import Workload
from bench.processes import ProcessSpec, Server, free_ports, running
from bench.records import Measurement, Observed
from bench.systems import OURS, Side, launch

ROUNDS: Final = 3
"""Times as many rounds as the table has: a few percent are to be seen here."""
SECONDS: Final = 2
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
        pairs = {
            pair: stack.enter_context(running(_specs(pair, options, endpoint), options.scratch))
            for pair in Pair
        }
        results = tuple(_compare(workload, pairs, options) for workload in _WORKLOADS)
        exports = _exports(collector)
    if not exports:
        message = "expected traces at the collector, none arrived"
        raise LoadFailedError(message)
    return results


def _compare(workload: Workload, pairs: dict[Pair, list[Server]], options: Options) -> Observed:
    requests = prepare(workload, options)
    for servers in pairs.values():
        _warm_up(servers, workload, requests)
    rounds: dict[Pair, list[Measurement]] = defaultdict(list)
    for number in range(options.rounds * ROUNDS):
        order = list(pairs) if number % 2 else list(reversed(pairs))
        for pair in order:
            measurement = measure(
                pairs[pair],
                requests.file,
                connections=workload.connections,
                seconds=max(options.seconds, SECONDS),
            )
            rounds[pair].append(measurement)
        shown = ", ".join(f"{pair.value} {rounds[pair][-1].rate:.0f}" for pair in Pair)
        options.say(f"{workload.title}, requests/s: {shown}")
    return Observed(
        workload=workload.title,
        silent=tuple(rounds[Pair.SILENT]),
        metrics=tuple(rounds[Pair.METRICS]),
        traced=tuple(rounds[Pair.TRACED]),
    )


def _warm_up(servers: list[Server], workload: Workload, requests: Requests) -> None:
    check(servers, workload, requests)
    run_wrk(servers[-1].spec.port, requests.file, connections=workload.connections, seconds=SECONDS)


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
