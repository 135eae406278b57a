"""A tiny run for real: train, calibrate, gate, evaluate and publish, as the commands do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from model_store.store import open_store
from nimbusguard.cli import main
from tests.service.processes import until
from training.simulator.settings import TraceSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not TraceSettings.from_environ().folder.is_dir(), reason="the traces are not at hand"
    ),
]
TINY = ("epochs=2", "steps_per_epoch=80", "lanes=50", "updates_per_branch=4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "tiny"
    arguments = ["--out", str(directory), "--seeds", "1", "2", "--calibration-decisions", "40"]
    assert main(["train", *arguments, "--set", *TINY]) == 0
    return directory


def test_a_run_leaves_what_its_record_needs(run: Path) -> None:
    """Plan, curve, network and calibration of each seed, and the name of the candidate."""
    plan = orjson.loads((run / "plan.json").read_bytes())
    candidate = orjson.loads((run / "candidate.json").read_bytes())

    assert plan["settings"]["epochs"] == 2
    assert candidate["seed"] in {1, 2}
    for seed in (1, 2):
        found = {path.name for path in (run / f"seed-{seed}").iterdir()}
        assert {"curve.csv", "network.npz", "calibration.json", "settings.json"} <= found


def test_the_gate_refuses_an_untrained_policy_and_the_store_too_unless_forced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two epochs are no policy: exit status 1, nothing published; forced, the metadata say so."""
    store = str(tmp_path / "store")
    judge = ["gate", "--run", str(run), "--decisions", "40", "--publish", store]

    assert main(judge) == 1
    assert "expected true" in capsys.readouterr().err
    assert main([*judge, "--force", "a test"]) == 0

    metadata = open_store(store).show("nimbusguard-dqn", "1")
    assert metadata.evaluation["gate"]["passed"] is False
    assert len(metadata.evaluation["gate"]["conditions"]) == 12


def test_an_evaluation_of_the_exported_files_writes_json_and_report(
    run: Path, tmp_path: Path
) -> None:
    """Raw and guarded, beside the HPA, on two short windows."""
    main(["gate", "--run", str(run), "--decisions", "10"])
    version = f"version:{run / 'candidate'}"
    arguments = ["--policy", version, "--policy", f"guarded+{version}", "--out", str(tmp_path)]
    windows = ["--windows", "wc98-1998-06-13", "nasa-1995-07-22", "--decisions", "60"]

    status = main(["evaluate", *arguments, *windows, "--families", "hpa"])

    document = orjson.loads((tmp_path / "evaluation.json").read_bytes())
    assert status == 0
    names = [row["policy"] for row in document["policies"]]
    assert names[:2] == ["version candidate, raw", "version candidate, guarded"]
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_the_workers_of_a_killed_run_end_with_it(tmp_path: Path) -> None:
    """They would train on for minutes, into the files of the next run of that name."""
    command = ["-m", "nimbusguard", "train", "--out", str(tmp_path / "run"), "--seeds", "1", "2"]
    with subprocess.Popen(
        [sys.executable, *command, "--set", "epochs=1000"], stdout=subprocess.DEVNULL
    ) as parent:
        workers = until(lambda: _training(parent.pid, tmp_path / "run"), "both seeds train")
        parent.kill()

    until(lambda: not any(_runs(pid) for pid in workers), "no worker is left")


def _training(parent: int, run: Path) -> list[int]:
    """The processes below one, once both seeds have begun."""
    if not all((run / f"seed-{seed}" / "curve.csv").exists() for seed in (1, 2)):
        return []
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children]


def _runs(pid: int) -> bool:
    """Whether a process is there and not a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
