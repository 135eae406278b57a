"""`bench/results.md`: the tables, written from the records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Final

from bench.machine import Provenance
from bench.plan import Workload
from bench.records import (
    Cell,
    Document,
    Measurement,
    Observed,
    Overload,
    Poison,
    Profile,
    Ray,
    RayLoad,
    Soak,
    Stage,
    Table,
    ratio,
)
from bench.systems import REFERENCES, ROWS_SETTING, Side, System
from bench.targets import Verdict, judge, p50, p99, rate
from serving.settings import ServerSettings

_SECTIONS = {
    "table": "Side by side",
    "overload": "Overload",
    "ray": "Ray",
    "poison": "Poison",
    "soak": "Soak",
    "memory": "Memory",
    "profile": "Profile",
    "observability": "Observability",
}


def render(document: Document, origins: Mapping[str, Provenance], *, plot: str | None) -> str:
    """The whole page.

    Args:
        document: What was measured.
        origins: How each section was measured, by its name.
        plot: File name of the plot, relative to the page; None leaves it out.
    """
    parts = [
        "# Benchmark results",
        "Written by `make bench`; do not edit. What is compared, and how to read it, stands in"
        " [docs/performance.md](../docs/performance.md).",
        "## What must hold",
        targets_table(judge(document)),
        "## How it was measured",
        provenance_table(origins),
    ]
    if document.table is not None and document.table.max_waiting_rows is not None:
        parts.append(row_limit(document.table.max_waiting_rows))
    if document.table is not None:
        parts += table_parts(document.table, plot)
    if document.overload is not None:
        parts += ["## Overload: twice the capacity", overload_table(document.overload)]
    if document.ray is not None:
        parts += ["## Ray: one and two replicas", *ray_parts(document.ray)]
    if document.poison is not None:
        parts += ["## Poison: one client in four sends ten features", poison_table(document.poison)]
    if document.soak is not None:
        parts += ["## Soak", soak_table(document.soak)]
    if document.memory is not None:
        parts += ["## Memory by load", memory_table(document.memory)]
    if document.observability is not None:
        parts += ["## What metrics and traces cost", observability_table(document.observability)]
    if document.profile is not None:
        parts += ["## Where the CPU time of one request goes", profile_table(document.profile)]
    return "\n\n".join(parts) + "\n"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are right-aligned."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Three significant digits; thousands are separated."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def targets_table(verdicts: Sequence[Verdict]) -> str:
    """Every target beside its measurement."""
    words = {True: "pass", False: "**fail**", None: "not measured"}
    rows = []
    for verdict in verdicts:
        target = verdict.target
        relation = "≥" if target.at_least else "≤"
        value = "" if verdict.value is None else f"{number(verdict.value)} {target.unit}"
        limit = f"{relation} {number(target.limit)} {target.unit}"
        rows.append([target.text, value, limit, words[verdict.holds]])
    return markdown(["", "measured", "target", ""], rows)


def provenance_table(origins: Mapping[str, Provenance]) -> str:
    """Date, commit, command and machine of each section."""
    header = ["section", "date", "commit", "command", "machine", "load before", "versions"]
    rows = []
    for name, origin in origins.items():
        machine = (
            f"{origin.cores} cores, {origin.cpu}, {origin.memory_gib:.0f} GiB, {origin.kernel}"
        )
        versions = ", ".join(f"{package} {version}" for package, version in origin.versions.items())
        command = f"`{origin.command}`"
        load = f"{origin.load_average:.1f}"
        title = _SECTIONS.get(name, name)
        rows.append([title, origin.date, origin.commit, command, machine, load, versions])
    return markdown(header, rows)


def row_limit(rows: int) -> str:
    """Under which limit of waiting rows ours was compared, and why."""
    shipped = ServerSettings().max_waiting_rows
    if rows == shipped:
        return f"Side by side, ours ran with its limits as shipped (`{ROWS_SETTING}={rows}`)."
    return (
        f"Side by side, ours ran with `{ROWS_SETTING}={rows}`, the rows that wait at once under the"
        f" largest load of the table; all other limits were as shipped. With the {shipped:,} that"
        " are shipped it refuses a part of such a load with 503, and a closed loop that is refused"
        " asks again at once, so the table would measure refusals. Memory after the run is that of"
        " this larger queue. No other section raises it."
    )


def table_parts(table: Table, plot: str | None) -> list[str]:
    """The comparison: one table for single rows, one for batches, for each side."""
    parts = ["## Side by side", _reading(table)]
    if plot is not None:
        parts.append(f"![Latency over load: ours against the reference]({plot})")
    for side in Side:
        for title, rows in (("single rows", {1}), ("batches", {100, 1000})):
            cells = [
                cell
                for cell in table.cells
                if cell.workload.side is side and cell.workload.rows in rows
            ]
            if cells:
                parts += [f"### {side.value.capitalize()}, {title}", cells_table(table, cells)]
    return [*parts, "### Start-up and memory", processes_table(table)]


def _reading(table: Table) -> str:
    cells = table.cells
    others = sorted(round_.other_cores for cell in cells for round_ in cell.rounds)
    busiest = max(cell.median(_generator) for cell in cells)
    rounds = len(cells[0].rounds) if cells else 0
    middle = others[len(others) // 2] if others else 0.0
    return (
        f"Medians of {rounds} rounds. In a round the systems of one workload are measured one after"
        " another, and the ratios of the first table are formed within a round. `over reference` is"
        " requests/s over the reference with a REST hop and over that with a gRPC hop. `server` is"
        " the share of one core that the busiest process of the system used, and `wrk` that of the"
        f" load generator, which has one thread; its largest median is {number(busiest)}. Where"
        " `server` is the larger one, the limit is the server's. Everything else on the machine"
        f" used {number(middle)} cores (median over all measurements)."
    )


def _generator(measurement: Measurement) -> float:
    return measurement.generator_cores


def _server(measurement: Measurement) -> float:
    return measurement.server_cores


def _cpu(measurement: Measurement) -> float:
    return measurement.cpu_us


def cells_table(table: Table, cells: Sequence[Cell]) -> str:
    """One line for each system under each workload."""
    header = ["form, rows, connections", "system", "requests/s", "rows/s", "p50 ms", "p99 ms"]
    header += ["errors", "CPU µs/request", "server", "wrk", "over reference"]
    rows = []
    previous: Workload | None = None
    for cell in cells:
        workload = cell.workload
        label = f"{workload.form.value}, {workload.rows:,}, {workload.connections}"
        rows.append(
            [
                label if workload != previous else "",
                cell.system.value,
                number(cell.median(rate)),
                number(cell.median(rate) * workload.rows),
                number(cell.median(p50)),
                number(cell.median(p99)),
                str(cell.errors),
                number(cell.median(_cpu)),
                f"{cell.median(_server):.2f}",
                f"{cell.median(_generator):.2f}",
                _over_reference(table, cell),
            ]
        )
        previous = workload
    return markdown(header, rows)


def _over_reference(table: Table, cell: Cell) -> str:
    ratios = [
        number(ratio(cell, other, rate)) if other is not None and other.median(rate) else "-"
        for other in (table.find(cell.workload, reference) for reference in REFERENCES)
    ]
    ours = cell.system in {System.OURS_REST, System.OURS_GRPC}
    return " / ".join(ratios) if ours else ""


def processes_table(table: Table) -> str:
    """Start-up and memory of each process."""
    header = ["system", "process", "ready s (median)", "resident MiB after the run", "peak MiB"]
    rows = []
    for record in table.processes:
        ready = sorted(record.ready_s)[len(record.ready_s) // 2]
        memory = [number(record.resident_mib), number(record.peak_mib)]
        rows.append([record.system.value, record.name, f"{ready:.2f}", *memory])
    return markdown(header, rows)


def overload_table(overloads: Sequence[Overload]) -> str:
    """What became of the requests of an overload; one column for each workload."""
    lines: list[tuple[str, Callable[[Overload], str]]] = [
        ("CPU of the transformer for an answer, µs", lambda each: number(each.answer_us)),
        ("the same for a refusal, µs, at most", lambda each: number(each.refusal_us)),
        (
            "refusals fill the loop at, times capacity, at least",
            lambda each: number(each.sustainable),
        ),
        ("capacity (fastest closed loop), requests/s", lambda each: number(each.capacity)),
        ("seconds of overload", lambda each: number(each.seconds)),
        ("offered, requests/s", lambda each: number(each.offered)),
        ("no connection free, share of offered", lambda each: f"{each.unsent_share:.1%}"),
        ("accepted, requests/s", lambda each: number(each.accepted)),
        ("accepted over capacity", lambda each: number(each.goodput)),
        ("refused with 503, share of sent", lambda each: f"{each.refused_share:.1%}"),
        ("neither 200 nor 503, requests", lambda each: str(each.failed)),
        ("p99 before the overload, ms", lambda each: number(each.normal_p99_ms)),
        ("p50 of accepted requests, ms", lambda each: number(each.p50_ms)),
        ("p99 of accepted requests, ms", lambda each: number(each.p99_ms)),
        ("p99 in the first sixth, ms", lambda each: number(each.first_p99_ms)),
        ("p99 in the last sixth, ms", lambda each: number(each.last_p99_ms)),
        ("p99 of the answers 503, ms", lambda each: number(each.refused_p99_ms)),
        ("back to normal after, s", lambda each: f"{each.recovery_s:.1f}"),
        ("CPU of the busier of two generators, cores", lambda each: f"{each.generator_cores:.2f}"),
    ]
    rows = [[text, *(value(each) for each in overloads)] for text, value in lines]
    return markdown(["", *(each.workload for each in overloads)], rows)


def ray_parts(ray: Ray) -> list[str]:
    """Throughput and where the cores went, as medians of the rounds."""
    header = [
        "",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "errors",
        "replicas",
        "HAProxy",
        "Ray's daemons",
    ]
    header += ["wrk", "others"]
    systems = {"predictor, plain": ray.plain, "Ray, 1 replica": ray.one, "Ray, 2 replicas": ray.two}
    rows = []
    for name, loads in systems.items():
        shown = [number(median(value(each) for each in loads)) for value in _RAY_LATENCY]
        cores = [f"{median(value(each) for each in loads):.2f}" for value in _RAY_CORES]
        rows.append([name, *shown, str(sum(each.errors for each in loads)), *cores])
    busy = [median(value(each) for each in ray.two) for value in _RAY_CORES]
    needed = 2 + sum(busy[1:])
    return [
        f"V1 arrays, 1 row, 64 connections, {len(ray.one)} rounds. Two replicas over one:"
        f" {number(ray.scaling)} times. The last five columns are CPU seconds per second. The"
        f" machine has {ray.cores} cores; with two replicas, HAProxy, Ray's daemons, the generator"
        f" and others took {number(sum(busy[1:]))} of them, so two full replicas would need"
        f" {number(needed)} in all, and got {number(busy[0])} for themselves.",
        markdown(header, rows),
    ]


_RAY_LATENCY: Final[tuple[Callable[[RayLoad], float], ...]] = (
    lambda each: each.rate,
    lambda each: each.p50_ms,
    lambda each: each.p99_ms,
)
_RAY_CORES: Final[tuple[Callable[[RayLoad], float], ...]] = (
    lambda each: each.replica_cores,
    lambda each: each.proxy_cores,
    lambda each: each.daemon_cores,
    lambda each: each.generator_cores,
    lambda each: each.other_cores,
)


def observability_table(observed: Sequence[Observed]) -> str:
    """Throughput, CPU and latency without recording, with metrics, and with traces too."""
    header = ["", "", "requests/s", "p50 ms", "CPU µs/request", "errors"]
    header += ["requests/s over nothing recorded", "of the rounds", "CPU over nothing recorded"]
    rows = []
    for each in observed:
        for name, rounds in (
            ("nothing recorded", each.silent),
            ("metrics", each.metrics),
            ("metrics, and traces of 1 %", each.traced),
        ):
            figures = [number(median(value(one) for one in rounds)) for value in (rate, p50)]
            figures.append(number(median(_cpu(one) for one in rounds)))
            kept, spent = (f"{each.share(rounds, value):.3f}" for value in (rate, _cpu))
            errors = str(sum(one.errors for one in rounds))
            first = each.workload if rounds is each.silent else ""
            ratios = _range(each.ratios(rounds, rate))
            rows.append([first, name, *figures, errors, kept, ratios, spent])
    return (
        f"{len(observed[0].silent)} rounds, each with new processes. Within one the three pairs"
        " take turns of a quarter of a second, or a second, in every order; seconds are those of a"
        " pair's own turns. Over nothing recorded stand medians of the ratios within rounds, and"
        " their range.\n\n" + markdown(header, rows)
    )


def poison_table(poison: Poison) -> str:
    """What three good clients saw, and what chance alone makes of it."""
    rows = [
        ["requests/s of each client", number(poison.rate)],
        ["answers to the three good clients", f"{poison.answers:,}"],
        ["wrong, refused or missing", str(poison.wrong)],
        ["poisonous requests refused with 400", f"{poison.refusals:,}"],
        ["poisonous requests with another answer", str(poison.not_refused)],
        ["p99 with four good clients, ms", _list(poison.clean_p99_ms)],
        ["p99 beside the poisonous one, ms", _list(poison.poisoned_p99_ms)],
        ["ratio, median of the rounds", number(poison.p99_ratio)],
    ]
    if poison.chance_ratios:
        rows += [
            ["ratios of the rounds", _range(poison.ratios)],
            ["p99 with four good clients once more, ms", _list(poison.again_p99_ms)],
            [
                "by chance: clean once more over clean, median of the rounds",
                number(median(poison.chance_ratios)),
            ],
            ["by chance: ratios of the rounds", _range(poison.chance_ratios)],
        ]
    return markdown(["", ""], rows)


def _range(values: Sequence[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}"


def _list(values: Iterable[float]) -> str:
    return ", ".join(number(value) for value in values)


def soak_table(soak: Soak) -> str:
    """Memory at up to ten points of a soak."""
    every = max(len(soak.checkpoints) // 10, 1)
    points = list(soak.checkpoints[::every])
    if points[-1] != soak.checkpoints[-1]:
        points.append(soak.checkpoints[-1])
    rows = [
        [f"{point.requests:,}", f"{point.transformer_mib:.1f}", f"{point.predictor_mib:.1f}"]
        for point in points
    ]
    table = markdown(["requests", "transformer MiB", "predictor MiB"], rows)
    return (
        f"{soak.requests:,} requests, {soak.errors} errors, {number(soak.rate)} a second.\n\n"
        + table
    )


def memory_table(stages: Sequence[Stage]) -> str:
    """Memory after each kind of load."""
    rows = [
        [
            stage.system,
            stage.process,
            stage.after,
            number(stage.resident_mib),
            number(stage.peak_mib),
        ]
        for stage in stages
    ]
    return markdown(["system", "process", "after", "resident MiB", "peak MiB"], rows)


def profile_table(profiles: Sequence[Profile]) -> str:
    """Microseconds by stage; one column for each process under each workload."""
    header = ["µs of CPU for one request"]
    header += [f"{profile.workload}: {profile.process}" for profile in profiles]
    total: Counter[str] = Counter()
    for profile in profiles:
        total.update(profile.stages_us)
    rows = [
        [stage, *(number(profile.stages_us.get(stage, 0.0)) for profile in profiles)]
        for stage, _ in total.most_common()
    ]
    rows.append(["**all**", *(f"**{number(profile.cpu_us)}**" for profile in profiles)])
    return markdown(header, rows)
