"""A short version of `make demo`: the whole loop, live."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.demo.__main__ import compare
from tests.demo.report import figures, write
from tests.demo.rounds import LEAST, MOST, Moment, Round
from tests.demo.traffic import Request, Traffic
from tests.demo.view import View, bars
from training.simulator.workload import scaled_to_peak

SECONDS = 60.0


def hill(seconds: float, rate: float) -> Traffic:
    """From little to much and back."""
    counts = np.concatenate([np.linspace(10, 100, 12), np.linspace(100, 10, 12)])
    return Traffic(
        source=scaled_to_peak("hill", "made", 60.0, counts), peak_rate=rate, seconds=seconds
    )


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(600)
async def test_the_loop_follows_the_load_live(tmp_path: Path) -> None:
    """Replicas rise with it under both policies; KServe decides; nearly every request succeeds."""
    traffic = hill(SECONDS, 25.0)

    rounds = await compare(traffic, seed=3, console=Console(file=io.StringIO()))
    write(tmp_path / "report.html", traffic, rounds)

    ours, theirs = rounds
    assert (ours.policy, theirs.policy) == ("nimbusguard", "hpa")
    for one in rounds:
        running = [moment.running for moment in one.moments]
        assert max(running) > running[0]
        assert all(LEAST <= moment.wanted <= MOST for moment in one.moments)
        failed = sum(not request.succeeded for request in one.requests)
        assert failed < 0.1 * len(one.requests)
    assert "kserve" in {moment.source for moment in ours.moments}
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_the_rate_follows_the_compressed_trace() -> None:
    """The highest point of the source is the peak of the run, at its place."""
    traffic = hill(120.0, 50.0)

    assert traffic.rate(60.0) == pytest.approx(50.0, rel=0.1)
    assert traffic.rate(0.0) == pytest.approx(5.0, rel=0.1)


def test_the_figures_count_what_a_user_would_mind() -> None:
    """Failed, too slow, and not even sent."""
    moments = [
        Moment(since_s=float(n), rate=1.0, wanted=n // 2, running=2, p95_s=0.1, action="", source=s)
        for n, s in enumerate(["", "kserve", "kserve", "local_model"])
    ]
    requests = [Request(0.0, 0.1, True), Request(1.0, 0.9, True), Request(2.0, 0.2, False)]
    one = Round(policy="x", moments=moments, requests=requests, not_sent=1)

    assert (one.violations, one.violation_ratio) == (3, 0.75)
    assert (one.pod_seconds, one.changes) == (8.0, 1)
    assert dict(figures([one]))["decisions by"] == ["kserve, local_model"]


def test_the_view_shows_the_moment() -> None:
    """Load, replicas, p95, action, source; bars are as high as their number."""
    text = io.StringIO()
    moment = Moment(
        since_s=3.0, rate=12.0, wanted=4, running=3, p95_s=0.9, action="SCALE_UP_1", source="kserve"
    )

    with View(Console(file=text, width=100, force_terminal=True), 60.0) as view:
        view.show("nimbusguard", moment)

    shown = text.getvalue()
    for expected in ("12 requests/s", "3 running, 4 wanted", "900 ms", "SCALE_UP_1", "kserve"):
        assert expected in shown
    assert bars([0.0, 1.0, 2.0]) == " ▄█"
    assert bars([]) == ""


@pytest.mark.service
def test_without_the_traces_it_says_where_to_put_them(tmp_path: Path) -> None:
    """One line, exit status 1."""
    environ = os.environ | {"NIMBUSGUARD_TRACES": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "NIMBUSGUARD_TRACES" in done.stderr
    assert "Traceback" not in done.stderr
