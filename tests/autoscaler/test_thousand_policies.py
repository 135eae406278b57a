"""A thousand policies at an interval of 15 s in one process: what they cost, and who is late."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.autoscaler.test_process import environment_of, page

pytestmark = [pytest.mark.slow, pytest.mark.service]
POLICIES = 1_000
WARM_UP_S = 20.0
MEASURED_S = 60.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    columns = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def late_beyond(text: str, seconds: str) -> tuple[float, float]:
    """Evaluations that began later than a bound of the histogram, and all of them."""
    name = "nimbusguard_operator_lateness_seconds"
    within = re.search(rf'{name}_bucket{{le="{seconds}"}} (\S+)', text)
    count = re.search(rf"{name}_count (\S+)", text)
    assert within
    assert count
    return float(count[1]) - float(within[1]), float(count[1])


def test_a_thousand_policies_take_under_half_a_core(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    """Half a core, 300 MiB, and no evaluation a second late; every decision is KServe's."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.standin", str(POLICIES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as standin:
        assert standin.stdin is not None
        assert standin.stdout is not None
        environment = environment_of(standin.stdout.readline())
        environment["AUTOSCALER_EXPERIENCE_STORE"] = str(tmp_path / "experience.db")
        with (
            (tmp_path / "log.jsonl").open("w") as log,
            subprocess.Popen(
                [sys.executable, "-m", "autoscaler"],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as operator,
        ):
            try:
                assert operator.stdout is not None
                port = int(operator.stdout.readline().split()[-1])
                time.sleep(WARM_UP_S)
                before, began = cpu_seconds(operator.pid), time.monotonic()
                late_before, evaluations_before = late_beyond(page(port), "1.0")
                time.sleep(MEASURED_S)
                cores = (cpu_seconds(operator.pid) - before) / (time.monotonic() - began)
                memory, text = peak_memory_mib(operator.pid), page(port)
            finally:
                operator.send_signal(signal.SIGTERM)
                operator.communicate()
                standin.stdin.close()
        standin.wait(20)

    late, evaluations = late_beyond(text, "1.0")
    record_property("cores", round(cores, 3))
    record_property("peak_mib", round(memory))
    assert evaluations - evaluations_before >= 0.95 * POLICIES * MEASURED_S / 15.0
    assert late == late_before
    assert cores < 0.5
    assert memory < 300
