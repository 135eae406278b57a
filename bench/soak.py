"""`bench soak` and `bench memory`: what stays in memory after many requests, and after big ones."""

from __future__ import annotations

from typing import Final

from bench.load import run_wrk
from bench.measure import Options, check, entry, prepare
from bench.payloads import Form
from bench.plan import Workload
from bench.processes import resident_mib, running, settle
from bench.records import Checkpoint, Soak, Stage
from bench.systems import OURS, Side, System, launch

_CHUNK_S: Final = 10
_WORKLOAD: Final = Workload(side=Side.PAIR, form=Form.NAMED, rows=1, connections=64)


def run_soak(options: Options, *, count: int) -> Soak:
    """Send single named rows over 64 connections until `count` answers have come.

    Raises:
        ServerFailedError: A process ended.
        WrongAnswerError: An answer before the load is wrong.
        LoadFailedError: The generator failed.
    """
    requests = prepare(_WORKLOAD, options)
    done = errors = 0
    seconds = 0.0
    checkpoints: list[Checkpoint] = []
    with running(launch(OURS, options.model_file).specs, options.scratch) as servers:
        check(servers, _WORKLOAD, requests)
        predictor, transformer = servers
        while done < count:
            load = run_wrk(transformer.spec.port, requests.file, connections=64, seconds=_CHUNK_S)
            done += load.requests
            errors += load.errors
            seconds += load.seconds
            checkpoints.append(
                Checkpoint(
                    requests=done,
                    transformer_mib=resident_mib(transformer.pid),
                    predictor_mib=resident_mib(predictor.pid),
                )
            )
            options.say(f"{done} requests, {errors} errors, {checkpoints[-1]}")
    return Soak(requests=done, errors=errors, rate=done / seconds, checkpoints=tuple(checkpoints))


def run_memory(options: Options) -> tuple[Stage, ...]:
    """Resident memory of the reference and of ours: ready, after single rows, after large batches.

    Raises:
        ServerFailedError: A process ended.
        WrongAnswerError: An answer is wrong.
        LoadFailedError: The generator failed.
    """
    loads = [
        ("ready", None),
        ("single rows, 64 connections", _WORKLOAD),
        ("batches of 1,000 named rows, 16 connections", _batches(Form.NAMED)),
        ("batches of 1,000 rows as arrays, 16 connections", _batches(Form.ARRAYS)),
    ]
    stages: list[Stage] = []
    for system in (System.REFERENCE_GRPC, OURS):
        with running(launch(system, options.model_file).specs, options.scratch) as servers:
            for after, workload in loads:
                if workload is not None:
                    requests = prepare(workload, options)
                    asked = entry(servers, workload.side)
                    check(asked, workload, requests)
                    run_wrk(
                        asked[-1].spec.port,
                        requests.file,
                        connections=workload.connections,
                        seconds=options.seconds,
                    )
                    settle(servers)
                stages.extend(
                    Stage(
                        system=system.value,
                        process=server.spec.name,
                        after=after,
                        resident_mib=resident_mib(server.pid),
                        peak_mib=resident_mib(server.pid, "VmHWM"),
                    )
                    for server in servers
                )
                options.say(f"{system.value}: {after}")
    return tuple(stages)


def _batches(form: Form) -> Workload:
    return Workload(side=Side.PAIR, form=form, rows=1000, connections=16)
