"""The workload that explanations compare with: one calm state, the same for every version.

An attribution answers "compared with what?". An idle pod would be the usual answer, a state of
zeros, but then a workload that is itself nearly idle differs in nothing and its removal of pods has
no explanation. So the baseline lies in the middle: four pods at half of everything that is a share,
a tenth of a second of latency, no errors, nothing throttled.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from nimbusguard.contract.features import NAMES
from nimbusguard.contract.normalization import normalize

BASELINE: Final[dict[str, float]] = {
    "cpu_utilization": 0.5,
    "memory_utilization": 0.5,
    "network_io_rate": 100_000.0,
    "request_rate": 100.0,
    "pod_count": 4.0,
    "response_time_p95": 0.1,
    "error_rate": 0.0,
    "queue_depth": 4.0,
    "cpu_throttling": 0.0,
    "memory_pressure": 0.5,
    "node_utilization": 0.5,
}
"""Raw values by feature, in the units of the table."""

BASELINE_STATE: Final = normalize(np.array([[BASELINE[name] for name in NAMES]])).state[0]  # (F,)
BASELINE_STATE.setflags(write=False)
