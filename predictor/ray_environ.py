"""What Ray has to find in the environment, of every process of the cluster, before it is imported.

Imports nothing, so that whoever starts Ray can set these first. The manifest of the RayService
carries the same values.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Final

RAY_ENVIRON: Final[dict[str, str]] = {
    # HAProxy in front, requests straight to the replicas: a twentieth of the Python proxy's cost.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A replica that leaves is taken out of HAProxy first; Ray's 30 s are meant for cloud balancers.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "2",
    # Inference changes nothing, so what a dying replica has not answered goes to another one.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def prepare_environ(environ: MutableMapping[str, str]) -> None:
    """Fill in what is missing; what an operator has set stays."""
    for key, value in RAY_ENVIRON.items():
        environ.setdefault(key, value)
