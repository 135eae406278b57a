"""A short version of `make demo`: the whole loop, live."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiohttp import web
from rich.console import Console

from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import NotFound
from tests.demo.__main__ import TERMS, compare
from tests.demo.deciders import OperatorProcess
from tests.demo.doubt import difference
from tests.demo.report import figures, keep, summary, write
from tests.demo.rounds import HPA, NIMBUSGUARD, Moment, Round, changes, direction_changes
from tests.demo.traffic import EXCERPT_NAME, Request, Traffic, compressed, trace_of
from tests.demo.view import View, bars
from tests.live.exporters import Quota
from tests.live.processes import start
from training.simulator.workload import scaled_to_peak

SECONDS = 45.0
POLL_S = 0.5
KEY = "shop/web"
CONSOLE = re.compile(r"^console +(http://127\.0\.0\.1:\d+/console/)$", re.MULTILINE)


def hill(seconds: float, rate: float) -> Traffic:
    """From little to much and back."""
    counts = np.concatenate([np.linspace(10, 100, 12), np.linspace(100, 10, 12)])
    source = scaled_to_peak("hill", "made", 60.0, counts)
    return compressed(source, peak_rate=rate, seconds=seconds)


def moment(**change: object) -> Moment:
    fields = {"since_s": 3.0, "rate": 12.0, "wanted": 4, "running": 3, "p95_s": 0.9}
    fields |= {"violations": 6, "version": "2", "machine_load": 1.5}
    return Moment(**(fields | {"action": "SCALE_UP_1", "source": "kserve"} | change))  # type: ignore[arg-type]


async def told_by_the_console(text: io.StringIO) -> tuple[dict[str, Any], dict[str, Any]]:
    """What it says of the workload and of a decision, at the address that the demo prints."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while (found := CONSOLE.search(text.getvalue())) is None:  # noqa: ASYNC110 - its output
            await asyncio.sleep(POLL_S)
        about, why = f"{found[1]}api/workload", f"{found[1]}api/explanation"
        while True:
            await asyncio.sleep(POLL_S)
            page = await client.get(about, params={"key": KEY, "seconds": 300})
            document = page.json() if page.is_success else {"recent": ()}
            by_kserve = [one["id"] for one in document["recent"] if one["source"] == "kserve"]
            if len(by_kserve) < 3:
                continue
            page = await client.get(why, params={"key": KEY, "id": by_kserve[0]})
            if page.is_success:
                return document, page.json()["explanation"]


def failed_share(one: Round) -> float:
    return sum(not request.succeeded for request in one.requests) / len(one.requests)


@pytest.mark.service
async def test_the_loop_follows_the_load_live(tmp_path: Path) -> None:
    """Replicas rise with it under both; KServe decides; no more requests fail than under the HPA.

    Meanwhile the console says what was done in the last five minutes, why, and whether the HPA
    would have done better.
    """
    traffic, text = hill(SECONDS, 30.0), io.StringIO()

    asking = asyncio.create_task(told_by_the_console(text))
    try:
        rounds = await compare(
            traffic,
            seed=3,
            console=Console(file=text, width=120),
            store=tmp_path / "experience.db",
        )
        assert asking.done(), "the console did not answer while the demo ran"
        document, why = asking.result()
    finally:
        asking.cancel()
    write(tmp_path / "report.html", traffic, TERMS, rounds)

    for one in rounds.values():
        assert max(moment.running for moment in one.moments) > one.moments[0].running
        assert all(TERMS.least <= wanted <= TERMS.most for wanted in one.wanted)
    assert len(rounds[NIMBUSGUARD].requests) == len(rounds[HPA].requests)
    # Beside the HPA in the same run: on a machine without a free core both lose requests.
    assert failed_share(rounds[NIMBUSGUARD]) < failed_share(rounds[HPA]) + 0.1
    assert "kserve" in {moment.source for moment in rounds[NIMBUSGUARD].moments}
    assert "operator    http://127.0.0.1:" in text.getvalue()
    verdict, reason = document["comparison"]["verdict"], document["comparison"]["reason"]
    assert verdict in ("better", "same", "worse"), reason
    assert {one["action"] for one in document["recent"]} <= ScaleAction.__members__.keys()
    assert why["action"] in ScaleAction.__members__
    assert why["features"]
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert "<link" not in page


def test_the_rate_follows_the_compressed_trace() -> None:
    """The highest point of the source is the peak of the run, at its place."""
    traffic = hill(120.0, 50.0)

    assert traffic.rate(60.0) == pytest.approx(50.0, rel=0.1)
    assert traffic.rate(0.0) == pytest.approx(5.0, rel=0.1)


def test_without_the_traces_the_committed_day_is_replayed(tmp_path: Path) -> None:
    """A whole day by the minute, scaled as every trace."""
    day = trace_of(tmp_path, EXCERPT_NAME)

    assert day.duration_s == 86_400.0
    assert np.percentile(day.load, 99.9) == pytest.approx(1.0)


def test_a_folder_with_some_of_the_traces_is_a_mistake(tmp_path: Path) -> None:
    """It is named, rather than passed over for the committed day."""
    rows = "timestamp,requests\n1998-06-13T00:00:00,1\n1998-06-13T00:01:00,2\n"
    (tmp_path / "wc98_requests_per_min.csv").write_text(rows)

    with pytest.raises(NotFound, match=r"nasa_july_requests_per_min\.csv: not found"):
        trace_of(tmp_path, EXCERPT_NAME)


def test_the_figures_count_what_a_user_would_mind() -> None:
    """Failed, too slow, and not even sent."""
    moments = [
        moment(since_s=float(n), wanted=n // 2, running=2, source=source)
        for n, source in enumerate(["", "kserve", "kserve", "local_model"])
    ]
    requests = [Request(0.0, 0.1, True), Request(1.0, 0.9, True), Request(2.0, 0.2, False)]
    one = Round(decider="x", objective_s=0.5, moments=moments, requests=requests, not_sent=1)

    assert (one.violations, one.violation_ratio) == (3, 0.75)
    assert one.pod_seconds == 8.0
    assert dict(figures([one]))["decisions by (version)"] == ["kserve (2), local_model (2)"]


def round_of(decider: str, *violating_s: float, seconds: float = 600.0) -> Round:
    """One request a second, slow at these moments."""
    requests = [
        Request(float(at), 0.9 if at in violating_s else 0.1, True, 0.004)
        for at in range(int(seconds))
    ]
    moments = [moment(since_s=float(at)) for at in range(int(seconds))]
    return Round(decider=decider, objective_s=0.5, moments=moments, requests=requests)


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (range(0, 600, 10), (), True),  # in every block two more
        (range(20), (), False),  # all in one block of twenty: one surge that went badly
        ((), range(20), False),
        ((), (), False),
    ],
)
def test_a_difference_is_told_where_it_comes_again_and_again(
    ours: Sequence[int], theirs: Sequence[int], told: bool
) -> None:
    """One surge that went badly is chance; the same in every half minute is not."""
    found = difference(round_of(NIMBUSGUARD, *ours), round_of(HPA, *theirs), seconds=600.0)

    assert found.more == len(ours) - len(theirs)
    assert found.is_told is told


def test_a_short_run_tells_no_difference() -> None:
    """Its scatter is not known."""
    found = difference(
        round_of(NIMBUSGUARD, 1, 2, seconds=75.0), round_of(HPA, seconds=75.0), seconds=75.0
    )

    assert (found.more, found.chance, found.is_told) == (2, None, False)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        (600.0, "3 more violations than the HPA, which chance alone may do (up to 6)."),
        (75.0, "3 more violations than the HPA; a run under five minutes cannot tell that from"),
    ],
)
def test_the_summary_says_what_each_cost_and_what_is_chance(seconds: float, verdict: str) -> None:
    """Counts and shares, pod-time, turns, and how busy the machine was."""
    ours, theirs = round_of(NIMBUSGUARD, 1, 2, 3, seconds=seconds), round_of(HPA, seconds=seconds)

    told = "\n".join(summary({NIMBUSGUARD: ours, HPA: theirs}, seconds=seconds))

    requests, share = int(seconds), 3 / seconds
    for expected in (
        f"NimbusGuard: 3 of {requests} requests violated the objective ({share:.2%}), "
        f"{3 * requests} pod-seconds, 0 changes of direction.",
        f"HPA: 0 of {requests} requests violated the objective (0.00%)",
        verdict,
        "NimbusGuard took 0% more pod-time.",
        "a load average of 1.5 to 1.5, and one request in a hundred left 4 ms late or more",
    ):
        assert expected in told


def test_a_run_is_kept_request_by_request(tmp_path: Path) -> None:
    """So that its figures can be looked into afterwards."""
    one = round_of(NIMBUSGUARD, 1, seconds=2.0)

    keep(tmp_path / "run.json", hill(2.0, 1.0), TERMS, {NIMBUSGUARD: one})

    kept = json.loads((tmp_path / "run.json").read_text())["rounds"][NIMBUSGUARD]
    assert [request["took_s"] for request in kept["requests"]] == [0.1, 0.9]
    assert [moment["running"] for moment in kept["moments"]] == [3, 3]


@pytest.mark.parametrize(
    ("replicas", "changed", "turned"),
    [([], 0, 0), ([2, 2], 0, 0), ([2, 4, 4, 5], 2, 0), ([2, 4, 4, 3, 2, 5], 4, 2)],
)
def test_a_turn_is_a_fall_after_a_rise_or_the_reverse(
    replicas: list[int], changed: int, turned: int
) -> None:
    """Standing still in between does not hide it."""
    assert (changes(replicas), direction_changes(replicas)) == (changed, turned)


def test_the_view_shows_the_moment() -> None:
    """Load, replicas, p95, action, source; bars are as high as their number."""
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)

    with View(console, seconds=60.0, objective_s=0.5) as view:
        view.show({NIMBUSGUARD: moment(), HPA: moment(running=7, source="hpa")})

    shown = text.getvalue()
    for expected in (
        "12 requests/s",
        "3 running, 4 wanted",
        "7 running",
        "900 ms",
        "6 so far",
        "SCALE_UP_1",
        "kserve",
        "simulated: the Kubernetes API",
    ):
        assert expected in shown
    assert bars([0.0, 1.0, 2.0]) == " ▄█"
    assert bars([]) == ""


def test_a_pod_shows_no_more_cpu_than_its_limit() -> None:
    """What it used above that between two looks is not shown later either."""
    quota, shown = Quota(), []

    for now_s, used_s in ((0.0, 5.0), (1.0, 5.05), (2.0, 5.25), (3.0, 5.25)):
        shown.append(quota.shown_s(7, used_s, 0.08, now_s))

    assert shown == pytest.approx([5.0, 5.05, 5.13, 5.13])


@pytest.mark.service
@pytest.mark.parametrize("path", ["/console/", "/elsewhere/"])
async def test_the_console_is_told_where_there_is_one(path: str) -> None:
    """Its address is asked for once; an operator without one has none."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html>", content_type="text/html")

    app = web.Application()
    app.add_routes([web.get(path, page)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    process = start([sys.executable, "-c", ""])
    try:
        found = await OperatorProcess(process=process, url=url).console()
    finally:
        process.end()
        await runner.cleanup()

    assert found == (f"{url}/console/" if path == "/console/" else None)


@pytest.mark.service
def test_an_unknown_day_is_one_line(tmp_path: Path) -> None:
    """And exit status 1, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo", "--trace", "nasa-1969-07-20"],
        env=os.environ | {"NIMBUSGUARD_TRACES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "make demo: --trace: expected a day for validation, got 'nasa-1969-07-20'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.service
def test_without_its_programs_it_says_how_to_get_them(tmp_path: Path) -> None:
    """One line for both, and exit status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == "make demo: install it with `apt-get install prometheus haproxy`\n"
