"""Verdicts and pages from records, without measuring anything."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bench import results
from bench.machine import Provenance, cpu_model, memory_gib
from bench.payloads import Form
from bench.plan import Turn, Workload, full_plan, quick_plan, systems_of, waiting_rows
from bench.plot import curve, draw
from bench.records import (
    Cell,
    Checkpoint,
    Document,
    Measurement,
    Observed,
    Overload,
    Poison,
    ProcessRecord,
    Profile,
    Ray,
    RayLoad,
    Soak,
    Stage,
    Table,
    ratio,
)
from bench.report import markdown, number, render
from bench.systems import OURS, REFERENCES, ROWS_SETTING, Side, System, launch
from bench.targets import TARGETS, judge, rate
from serving.settings import KEYS, ServerSettings

ORIGIN = Provenance(
    date="2026-11-23",
    command="python -m bench all",
    commit="0123456789",
    cores=4,
    cpu="A CPU",
    memory_gib=24.0,
    kernel="6.1",
    load_average=0.2,
    versions={"python": "3.11.7"},
)
PAIR_64 = Workload(side=Side.PAIR, form=Form.NAMED, rows=1, connections=64)


def measured(rate_per_s: float, *, p50_ms: float = 1.0, errors: int = 0) -> Measurement:
    return Measurement(
        rate=rate_per_s,
        p50_ms=p50_ms,
        p99_ms=2 * p50_ms,
        errors=errors,
        cpu_us=100.0,
        server_cores=1.0,
        generator_cores=0.3,
        other_cores=0.1,
    )


def cell(system: System, *rates: float, workload: Workload = PAIR_64) -> Cell:
    return Cell(workload=workload, system=system, rounds=tuple(measured(each) for each in rates))


def overload(workload: str, *, p99_ms: float = 60.0) -> Overload:
    return Overload(
        workload=workload,
        answer_us=50.0,
        refusal_us=20.0,
        capacity=10_000.0,
        offered=20_000.0,
        seconds=60.0,
        accepted=9_000.0,
        unsent=0,
        unsent_share=0.0,
        refused_share=0.55,
        failed=0,
        normal_p99_ms=3.0,
        p50_ms=30.0,
        p99_ms=p99_ms,
        first_p99_ms=60.0,
        last_p99_ms=61.0,
        refused_p99_ms=10.0,
        recovery_s=0.1,
        generator_cores=0.7,
    )


def ray_load(rate_per_s: float) -> RayLoad:
    return RayLoad(
        rate=rate_per_s,
        p50_ms=6.0,
        p99_ms=12.0,
        errors=0,
        replica_cores=1.0,
        proxy_cores=0.4,
        daemon_cores=0.2,
        generator_cores=0.3,
        other_cores=0.1,
    )


def whole_document() -> Document:
    """Every cell of the full plan at the same speed, and one value in every other section."""
    cells = tuple(
        cell(system, 1000.0, 1100.0, workload=turn.workload)
        for turn in full_plan()
        for system in turn.systems
    )
    processes = tuple(
        ProcessRecord(
            system=OURS,
            name=name,
            ready_s=(1.5, 1.6),
            resident_mib=99.0,
            peak_mib=120.0,
        )
        for name in ("predictor", "transformer")
    )
    points = tuple(
        Checkpoint(requests=n * 100_000, transformer_mib=90.0 + n / 100, predictor_mib=250.0)
        for n in range(1, 22)
    )
    answers = (measured(1_000.0), measured(1_010.0))
    return Document(
        observability=(Observed(workload="w", silent=answers, metrics=answers, traced=answers),),
        table=Table(cells=cells, processes=processes, max_waiting_rows=64_000),
        overload=(overload("single rows"), overload("100 rows a request")),
        ray=Ray(
            cores=4,
            plain=(ray_load(9_000.0), ray_load(9_100.0)),
            one=(ray_load(5_000.0), ray_load(4_000.0)),
            two=(ray_load(9_000.0), ray_load(7_600.0)),
        ),
        poison=Poison(
            rate=1500.0,
            answers=1000,
            wrong=0,
            refusals=400,
            not_refused=0,
            clean_p99_ms=(10.0, 11.0),
            poisoned_p99_ms=(10.0, 10.0),
            again_p99_ms=(11.0, 11.0),
        ),
        soak=Soak(requests=2_100_000, errors=0, rate=11_000.0, checkpoints=points),
        profile=(
            Profile(
                workload="pair",
                process="transformer",
                rate=9.0,
                samples=10,
                cpu_us=30.0,
                stages_us={"forward": 20.0, "event loop": 10.0},
            ),
        ),
        memory=(
            Stage(system="ours", process="predictor", after="ready", resident_mib=9, peak_mib=10),
        ),
    )


def test_a_ratio_is_formed_within_each_round() -> None:
    """A machine that slows down for everybody between rounds changes no ratio."""
    ours = cell(OURS, 1000.0, 500.0, 2000.0)
    reference = cell(System.REFERENCE_GRPC, 100.0, 50.0, 200.0)

    assert ratio(ours, reference, rate) == 10.0


def test_every_target_is_measured_by_the_full_plan() -> None:
    """No line of what must hold can go unanswered after `make bench`."""
    assert all(verdict.value is not None for verdict in judge(whole_document()))


def test_the_quick_plan_answers_every_target_of_the_table() -> None:
    """Two minutes are enough for a first look at each of them."""
    document = whole_document()
    assert document.table is not None
    quick = {(turn.workload, system) for turn in quick_plan() for system in turn.systems}
    cells = tuple(each for each in document.table.cells if (each.workload, each.system) in quick)

    verdicts = judge(Document(table=replace(document.table, cells=cells)))

    unanswered = {
        verdict.target.text.split(":")[0].split(" ")[0]
        for verdict in verdicts
        if verdict.value is None
    }
    assert unanswered == {"Soak", "Overload", "Poison", "Ray", "Observability"}


@pytest.mark.parametrize(("value", "holds"), [(10.0, True), (9.99, False), (None, None)])
def test_a_limit_itself_holds(value: float | None, holds: bool | None) -> None:
    """`at least 10` is true of 10; what was not measured is neither true nor false."""
    rounds = None if value is None else value * 100.0
    cells = [] if rounds is None else [cell(OURS, rounds)]
    table = Table(cells=(*cells, cell(System.REFERENCE_GRPC, 100.0)), processes=())

    verdict = judge(Document(table=table))[0]

    assert verdict.target is TARGETS[0]
    assert verdict.holds is holds


def test_the_worst_workload_of_an_overload_counts() -> None:
    """A limit that single rows keep and large requests break is broken."""
    document = Document(overload=(overload("single rows"), overload("rows", p99_ms=900.0)))

    verdict = next(each for each in judge(document) if "p99 of accepted" in each.target.text)

    assert (verdict.value, verdict.holds) == (900.0, False)


def test_the_scaling_on_ray_is_formed_within_each_round() -> None:
    """1.8 and 1.9 have the median 1.85, whatever both rounds had in common."""
    document = whole_document()
    assert document.ray is not None

    assert document.ray.scaling == pytest.approx(1.85)


def test_the_page_says_what_the_cores_left_for_the_replicas() -> None:
    """With HAProxy, daemons, generator and others at one core, two replicas would need three."""
    page = render(whole_document(), {}, plot=None)

    assert "The machine has 4 cores" in page.replace("\n", " ")
    assert "would need 3 in all, and got 1 for themselves" in page


def test_growth_is_counted_from_the_first_tenth() -> None:
    """Pools that fill in the beginning are no leak."""
    points = (
        Checkpoint(requests=1_000, transformer_mib=50.0, predictor_mib=200.0),
        Checkpoint(requests=100_000, transformer_mib=80.0, predictor_mib=230.0),
        Checkpoint(requests=1_000_000, transformer_mib=80.5, predictor_mib=230.1),
    )

    soak = Soak(requests=1_000_000, errors=0, rate=1.0, checkpoints=points)

    assert soak.growth_mib == pytest.approx(0.5)


def test_the_page_shows_beside_the_ratio_what_chance_makes_of_it() -> None:
    """A reader sees whether poisoned over clean lies outside of clean over clean."""
    measured_poison = whole_document().poison
    assert measured_poison is not None
    poison = replace(
        measured_poison,
        clean_p99_ms=(10.0, 10.0, 10.0),
        poisoned_p99_ms=(9.0, 12.0, 10.5),
        again_p99_ms=(9.5, 10.2, 11.5),
    )

    page = render(Document(poison=poison), {}, plot=None)

    assert poison.p99_ratio == pytest.approx(1.05)
    assert "| ratio, median of the rounds | 1.05 |" in page
    assert "| ratios of the rounds | 0.9 to 1.2 |" in page
    assert "| by chance: clean once more over clean, median of the rounds | 1.02 |" in page
    assert "| by chance: ratios of the rounds | 0.95 to 1.15 |" in page


def test_a_poison_record_without_a_second_clean_run_is_still_read(tmp_path: Path) -> None:
    """Older records have none; the page shows their ratio and is silent on chance."""
    poison = whole_document().poison
    assert poison is not None
    older = replace(poison, again_p99_ms=())
    path = tmp_path / "results.json"
    results.save(path, "poison", older, ORIGIN)
    sections = orjson.loads(path.read_bytes())
    del sections["poison"]["result"]["again_p99_ms"]
    path.write_bytes(orjson.dumps(sections))

    document, origins = results.load(path)

    assert document.poison == older
    assert "by chance" not in render(document, origins, plot=None)


def test_records_survive_their_file(tmp_path: Path) -> None:
    """The report is written from the file, so nothing may be lost in it."""
    document = whole_document()
    path = tmp_path / "results.json"

    for name in (
        "table",
        "overload",
        "ray",
        "poison",
        "soak",
        "memory",
        "profile",
        "observability",
    ):
        results.save(path, name, getattr(document, name), ORIGIN)

    assert results.load(path) == (
        document,
        dict.fromkeys(
            ("memory", "observability", "overload", "poison", "profile", "ray", "soak", "table"),
            ORIGIN,
        ),
    )


def test_one_section_can_be_measured_again_without_the_others(tmp_path: Path) -> None:
    """Saving a section keeps the rest."""
    document = whole_document()
    path = tmp_path / "results.json"
    results.save(path, "soak", document.soak, ORIGIN)

    results.save(path, "poison", document.poison, ORIGIN)

    loaded, _ = results.load(path)
    assert (loaded.soak, loaded.poison, loaded.table) == (document.soak, document.poison, None)


def test_the_page_shows_every_target_and_every_section() -> None:
    """With its limit, its verdict, and where it was measured."""
    page = render(whole_document(), {"table": ORIGIN}, plot="plot.svg")

    for target in TARGETS:
        assert target.text in page
    assert "not measured" not in page
    assert "**fail**" in page
    assert "![Latency over load: ours against the reference](plot.svg)" in page
    for fact in ("2026-11-23", "0123456789", "A CPU", "4 cores", "python 3.11.7"):
        assert fact in page


def test_the_page_of_an_empty_document_says_that_nothing_was_measured() -> None:
    """Rather than passing what was never run."""
    page = render(Document(), {}, plot=None)

    assert page.count("not measured") == len(TARGETS)
    assert "pass" not in page


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.12345, "0.123"), (12.345, "12.3"), (150_000, "150,000")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """More would claim a precision that a benchmark has not."""
    assert number(value) == text


def test_a_markdown_table_has_one_cell_for_each_column() -> None:
    """Otherwise it does not render."""
    lines = markdown(["a", "b"], [["1", "2"], ["3", "4"]]).splitlines()

    assert lines == ["| a | b |", "| --- | ---: |", "| 1 | 2 |", "| 3 | 4 |"]


def test_the_plot_is_the_same_for_the_same_records(tmp_path: Path) -> None:
    """So that a commit shows a changed plot only if a figure changed."""
    document = whole_document()
    assert document.table is not None

    draw(document.table, tmp_path / "a.svg")
    draw(document.table, tmp_path / "b.svg")

    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert b"ours, gRPC hop" in first


def test_a_curve_rises_with_its_connections() -> None:
    """Points are joined in the order of the load, whatever order they were measured in."""
    document = whole_document()
    assert document.table is not None

    loads = [each.workload.connections for each in curve(document.table, System.OURS_GRPC)]

    assert loads == sorted(loads)
    assert {1, 16, 64} <= set(loads)


def test_the_quick_plan_is_a_part_of_the_full_one() -> None:
    """It measures less, never something else."""
    full = {(turn.workload, system) for turn in full_plan() for system in turn.systems}
    quick = {(turn.workload, system) for turn in quick_plan() for system in turn.systems}

    assert quick < full
    assert set(systems_of(full_plan())) == set(System)


@pytest.mark.parametrize("plan", [full_plan(), quick_plan()])
def test_the_row_limit_of_the_table_holds_every_load_of_its_plan(plan: tuple[Turn, ...]) -> None:
    """A closed loop has one request in flight for each connection, so none of ours is refused."""
    limit = waiting_rows(plan)

    assert all(turn.workload.rows * turn.workload.connections <= limit for turn in plan)
    assert limit >= ServerSettings().max_waiting_rows


def test_a_plan_of_small_loads_is_measured_with_the_shipped_limit() -> None:
    """The limit is raised for what does not fit into it, and never lowered."""
    small = [turn for turn in full_plan() if turn.workload.rows == 1]

    assert waiting_rows(small) == ServerSettings().max_waiting_rows


@pytest.mark.parametrize("system", list(System))
def test_a_row_limit_is_set_in_both_processes_of_ours_alone(system: System) -> None:
    """By the documented setting; without one, every limit is as shipped."""
    ours = system in {System.OURS_REST, System.OURS_GRPC}

    limited = launch(system, Path("model.pt"), max_waiting_rows=64_000).specs
    shipped = launch(system, Path("model.pt")).specs

    assert ROWS_SETTING in {key.name for key in KEYS}
    assert [dict(spec.environ) for spec in limited] == [
        {ROWS_SETTING: "64000"} if ours else {} for _ in limited
    ]
    assert [spec.environ for spec in shipped] == [() for _ in shipped]


def test_the_page_says_under_which_row_limit_ours_was_compared() -> None:
    """A reader must not take a measured limit for the shipped one."""
    document = whole_document()
    assert document.table is not None
    shipped = replace(document.table, max_waiting_rows=ServerSettings().max_waiting_rows)

    raised_page = render(document, {}, plot=None)
    shipped_page = render(replace(document, table=shipped), {}, plot=None)

    assert "`NIMBUSGUARD_MAX_WAITING_ROWS=64000`" in raised_page
    assert "With the 20,000 that are shipped it refuses" in raised_page
    assert "with its limits as shipped (`NIMBUSGUARD_MAX_WAITING_ROWS=20000`)" in shipped_page


def test_a_table_from_before_the_row_limit_was_recorded_says_nothing_of_it() -> None:
    """Older records stay readable, and nothing is claimed of their limit."""
    table = whole_document().table
    assert table is not None
    older = results.table_to_json(table)
    del older["max_waiting_rows"]

    loaded = results.table_from_json(older)

    assert loaded == replace(table, max_waiting_rows=None)
    assert ROWS_SETTING not in render(Document(table=loaded), {}, plot=None)


@pytest.mark.parametrize("system", list(System))
def test_a_transformer_is_pointed_at_the_port_of_its_predictor(system: System) -> None:
    """The HTTP port for a REST hop, the gRPC port for the other; no port is used twice."""
    specs = launch(system, Path("model.pt")).specs
    flags = [dict(zip(spec.arguments[2::2], spec.arguments[3::2], strict=False)) for spec in specs]
    ports = [
        flag[name] for flag in flags for name in ("--http_port", "--grpc_port") if name in flag
    ]

    assert len(set(ports)) == len(ports)
    if len(specs) == 2:
        predictor, transformer = flags
        port = "--grpc_port" if transformer["--predictor_protocol"] == "grpc-v2" else "--http_port"
        assert transformer["--predictor_host"] == f"127.0.0.1:{predictor[port]}"
        assert ("bench.reference" in specs[0].arguments[1]) == (system in REFERENCES)


def test_the_machine_is_read_from_what_the_kernel_says() -> None:
    """The first model name and the total memory."""
    assert (
        cpu_model("processor\t: 0\nmodel name\t: A CPU @ 3 GHz\nmodel name\t: B\n")
        == "A CPU @ 3 GHz"
    )
    assert cpu_model("processor\t: 0\n") == "unknown"
    assert memory_gib("MemFree: 1 kB\nMemTotal:       25165824 kB\n") == 24.0
