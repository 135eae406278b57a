"""`python -m bench.unobserved transformer|predictor …`: a server that records nothing.

What `bench observability` compares with. It is the shipped server with every recording method of
its metrics, and of the histograms that its fronts hold, replaced by nothing; there is no such
switch in the product.
"""

from __future__ import annotations

import runpy
import sys

from serving.distributions import Distribution
from serving.metrics import ServingMetrics


def recording_methods() -> list[str]:
    """The methods by which a server records."""
    return [name for name in vars(ServingMetrics) if name.startswith(("observe_", "count_"))]


def silence() -> None:
    """Replace them all, and what the fronts call of single histograms."""
    recording = [(ServingMetrics, name) for name in recording_methods()]
    for kind, name in (*recording, (Distribution, "observe")):
        setattr(kind, name, _nothing)


def _nothing(*_: object) -> None:
    """Record nothing."""


if __name__ == "__main__":
    silence()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
