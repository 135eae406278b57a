"""The drill with real servers: two transformers, two predictors, a real Prometheus, one judge.

Version 2 is stable. The canary is good, fails 5 % of its answers, is three times slower, always
scales up, or means something else by its features. Each verdict comes within 3,000 requests. How
the judge does over thousands of drawn samples is in `tests/policy/test_canary.py`; here what it
reads is what happened.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.canary.drill import HOP_S, REQUESTS, Bench, Drill
from tests.isvc.versions import publish_versions
from tests.live.processes import start, wait_until

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

SECONDS = 20
SECONDS_OF_A_REPETITION = 8
REPETITIONS = 20
PROMOTE, HOLD, ROLL_BACK, REFUSE = 0, 3, 4, 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 to 5; `versions` says what each is."""
    return publish_versions(tmp_path_factory.mktemp("store"))


@pytest.fixture
def drill(tmp_path: Path, store: Path) -> Iterator[Drill]:
    """Parts to start."""
    with ExitStack() as stack:
        yield Drill(stack, tmp_path, store)


CASES = {
    "good": ("3", {}, PROMOTE, {"fingerprint", "samples", "errors", "p99", "action mix"}),
    "5 % errors": ("3", {"error_share": 0.05}, ROLL_BACK, {"errors", "refused"}),
    "3 times slower": ("3", {"hop_s": 3 * HOP_S}, ROLL_BACK, {"p50", "p99"}),
    "always SCALE_UP_2": ("4", {}, ROLL_BACK, {"action mix"}),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_verdict_is_right_within_3000_requests(
    name: str, drill: Drill, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good: promote (status 0). Bad: roll back (status 4), for the right reason."""
    version, faults, expected, checks = CASES[name]
    bench = Bench(drill, drill.pair("2"), drill.pair(version, **faults), capsys)  # type: ignore[arg-type]

    outcome, _, _ = await bench.run(version, SECONDS)

    assert outcome.status == expected, outcome.text
    assert outcome.checks & checks, outcome.text
    assert outcome.counted <= REQUESTS * 1.1


async def test_a_good_version_is_not_rolled_back_in_twenty_repetitions(
    drill: Drill, capsys: pytest.CaptureFixture[str], record_property: pytest.RecordProperty
) -> None:
    """3,000 fresh requests and a judgement of these alone, twenty times."""
    bench = Bench(drill, drill.pair("2"), drill.pair("3"), capsys)

    outcomes = [(await bench.run("3", SECONDS_OF_A_REPETITION))[0] for _ in range(REPETITIONS)]

    statuses = Counter(outcome.status for outcome in outcomes)
    record_property("promoted", statuses[PROMOTE])
    with capsys.disabled():
        print(f"promoted {statuses[PROMOTE]} of {REPETITIONS}, held {statuses[HOLD]}")  # noqa: T201
    assert statuses.keys() <= {PROMOTE, HOLD}, [o.text for o in outcomes if o.status > HOLD]
    assert statuses[PROMOTE] >= REPETITIONS // 2


async def test_a_foreign_table_decides_nothing_and_is_refused(
    drill: Drill, capsys: pytest.CaptureFixture[str]
) -> None:
    """Served by a release that knows it, its every answer is turned into 503; status 5."""
    bench = Bench(drill, drill.pair("2"), drill.foreign_pair("5"), capsys)

    outcome, stable, canary = await bench.run("5", SECONDS)

    assert outcome.status == REFUSE, outcome.text
    assert outcome.checks == {"fingerprint"}, outcome.text
    assert stable.failures == {}
    assert canary.versions == {}
    assert canary.failures.total() == canary.sent
    assert all(reason.startswith("503: ") for reason in canary.failures)
    assert all("incompatible model" in reason for reason in canary.failures)


def test_a_version_with_a_foreign_table_serves_nobody(drill: Drill, tmp_path: Path) -> None:
    """In our own release its predictor ends at once and says why; there is nothing to judge."""
    log = tmp_path / "foreign.log"
    process = start(
        [sys.executable, "-m", "predictor", f"--model_dir={drill.directory('5')}"], log=log
    )

    wait_until("its end", lambda: process.popen.poll() is not None, 60)
    process.end()

    assert process.popen.returncode == 1
    assert "expected fingerprint" in log.read_text()
