"""`python -m bench.policies`: what one operator process costs at so many policies, and who is late.

The transformer and the predictor are the real ones. The API server and Prometheus are stand-ins in
a process of their own, over real HTTP, so that what is measured is the operator alone. Every policy
acts, experience is recorded, and the load wanders so that workloads are scaled now and then.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.payloads import MODEL
from bench.processes import (
    ProcessSpec,
    Server,
    cpu_seconds,
    free_ports,
    resident_mib,
    running,
)
from bench.systems import OURS, launch
from model_store.packaged import packaged_path, packaged_store
from tests.standin.process import stand_ins

INTERVAL_S: Final = 15.0
WARM_UP_S: Final = 20.0
"""An interval for every policy's first turn, and some for the first validation."""
MOST_CORES: Final = 0.5
MOST_MIB: Final = 300.0
MOST_DELAY_S: Final = 1.0
LEAST_BY_KSERVE: Final = 0.99
"""Share. What is measured is the loop with KServe in it; a question that a busy machine answers
after the deadline is the local model's, and no fault of the operator."""
_BUCKET: Final = "1.0"
"""The bucket that ends at `MOST_DELAY_S`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What was measured of one operator process."""

    policies: int
    seconds: float
    cores: float
    peak_mib: float
    decisions: int
    late: int
    """Decisions that came more than a second after their turn."""
    mean_delay_ms: float
    """From turn to decision, the quarter of a second between two looks at the clock included."""
    by_kserve: int
    questions: int
    """`:predict` calls that carried those decisions."""
    scalings: int

    def failures(self, *, late_share: float = 0.0) -> list[str]:
        """Which of the limits do not hold.

        Args:
            late_share: Share of the decisions that may be late; none on cores of its own.
        """
        most_late = round(late_share * self.decisions)
        expected = 0.95 * self.policies * self.seconds / INTERVAL_S
        checks = (
            (self.cores < MOST_CORES, f"cores: expected under {MOST_CORES}, got {self.cores:.3f}"),
            (
                self.peak_mib < MOST_MIB,
                f"memory: expected under {MOST_MIB:g} MiB, got {self.peak_mib:.0f}",
            ),
            (
                self.late <= most_late,
                f"late decisions: expected at most {most_late}, got {self.late}",
            ),
            (
                self.decisions >= expected,
                f"decisions: expected at least {expected:.0f}, got {self.decisions}",
            ),
            (
                self.by_kserve >= LEAST_BY_KSERVE * self.decisions,
                f"decisions by KServe: expected {LEAST_BY_KSERVE:.0%} of {self.decisions}, "
                f"got {self.by_kserve}",
            ),
        )
        return [message for holds, message in checks if not holds]


class Page:
    """A page of metrics, to be read by name."""

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def of(cls, server: Server) -> Page:
        """The page of a process now."""
        url = f"http://127.0.0.1:{server.spec.port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            return cls(response.read().decode())

    def total(self, name: str, labels: str = "") -> float:
        """The sum of a metric's samples whose labels contain a text; 0 without any."""
        pattern = rf"^{name}(?:\{{[^}}]*{re.escape(labels)}[^}}]*\}})? (\S+)$"
        return sum(float(value) for value in re.findall(pattern, self._text, re.MULTILINE))


def measure(policies: int, seconds: float, folder: Path) -> Cost:
    """Run an operator over so many policies, and measure it once it is warm.

    Args:
        policies: How many; each has its turn every 15 s.
        seconds: How long is measured.
        folder: For logs and the experience store.

    Raises:
        ServerFailedError: A process ended, or was not ready in time.
    """
    served = packaged_store().resolve(MODEL, "production")
    specs = launch(OURS, packaged_path() / MODEL / served / "model.pt").specs
    with running(specs, folder) as (_, transformer), stand_ins(policies) as cluster:
        spec = _operator(cluster, transformer.spec.port, folder)
        with running([spec], folder) as (operator,):
            time.sleep(WARM_UP_S)
            before, asked = Page.of(operator), Page.of(transformer)
            used_s, began = cpu_seconds(operator.pid), time.monotonic()
            time.sleep(seconds)
            used_s, took_s = cpu_seconds(operator.pid) - used_s, time.monotonic() - began
            peak_mib = resident_mib(operator.pid, "VmHWM")
            after, answered = Page.of(operator), Page.of(transformer)

    def grown(name: str, labels: str = "") -> float:
        return after.total(name, labels) - before.total(name, labels)

    requests = ("nimbusguard_model_serving_requests_total", 'route="v1_predict"')
    delay = "nimbusguard_operator_decision_delay_seconds"
    counted = "nimbusguard_operator_decisions_total"
    decisions, delays = grown(counted), grown(f"{delay}_count")
    return Cost(
        policies=policies,
        seconds=took_s,
        cores=used_s / took_s,
        peak_mib=peak_mib,
        decisions=round(decisions),
        late=round(delays - grown(f"{delay}_bucket", f'le="{_BUCKET}"')),
        mean_delay_ms=1e3 * grown(f"{delay}_sum") / max(delays, 1.0),
        by_kserve=round(grown(counted, 'source="kserve"')),
        questions=round(answered.total(*requests) - asked.total(*requests)),
        scalings=round(grown("nimbusguard_operator_scalings_total", 'result="ok"')),
    )


def _operator(cluster: dict[str, str], transformer_port: int, folder: Path) -> ProcessSpec:
    (port,) = free_ports(1)
    environ = cluster | {
        "KSERVE_ENDPOINT": f"http://127.0.0.1:{transformer_port}/v1/models/{MODEL}:predict",
        "AUTOSCALER_PORT": str(port),
        "AUTOSCALER_EXPERIENCE_STORE": str(folder / "experience.db"),
    }
    return ProcessSpec(
        name="autoscaler",
        arguments=("-m", "autoscaler"),
        port=port,
        ready_path="/readyz",
        environ=tuple(environ.items()),
    )


def main(argv: Sequence[str]) -> int:
    """Measure and print.

    Returns:
        0 if every limit holds, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__)
    parser.add_argument("--policies", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long is measured")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="nimbusguard-bench-") as folder:
        cost = measure(args.policies, args.seconds, Path(folder))
    if args.json:
        print(json.dumps(asdict(cost)))
    else:
        for name, value in asdict(cost).items():
            shown = f"{value:.3f}" if isinstance(value, float) else f"{value}"
            print(f"{name.replace('_', ' '):<14} {shown}")
    for failure in cost.failures():
        print(f"bench.policies: {failure}", file=sys.stderr)
    return 1 if cost.failures() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
