"""`python -m bench.unobserved transformer|predictor …`: a server that records nothing.

What `bench observability` compares with. It is the shipped server with every recording method of
its metrics replaced by nothing; there is no such switch in the product.
"""

from __future__ import annotations

import runpy
import sys

from serving.metrics import ServingMetrics


def recording_methods() -> list[str]:
    """The methods by which a server records."""
    return [name for name in vars(ServingMetrics) if name.startswith(("observe_", "count_"))]


def silence() -> None:
    """Replace them all."""
    for name in recording_methods():
        setattr(ServingMetrics, name, _nothing)


def _nothing(*_: object) -> None:
    """Record nothing."""


if __name__ == "__main__":
    silence()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
