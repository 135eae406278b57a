"""What an operator imports to ask for decisions: `AsyncClient`, `Client` and their typed values.

Names are resolved on first use, so that importing one part of the package does not load the HTTP
library for a program that needs none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nimbusguard.client.client import AsyncClient, Client
    from nimbusguard.client.decision import Decision
    from nimbusguard.client.endpoint import Endpoint
    from nimbusguard.client.exchange import ClientSettings
    from nimbusguard.client.instances import (
        Instance,
        NamedMetrics,
        PrometheusAnswer,
        RawVector,
        ReplicaBounds,
        Workload,
        WorkloadReference,
    )
    from nimbusguard.client.metadata import ModelMetadata, TensorMetadata
    from nimbusguard.client.retry import RetryPolicy

__all__ = [
    "AsyncClient",
    "Client",
    "ClientSettings",
    "Decision",
    "Endpoint",
    "Instance",
    "ModelMetadata",
    "NamedMetrics",
    "PrometheusAnswer",
    "RawVector",
    "ReplicaBounds",
    "RetryPolicy",
    "TensorMetadata",
    "Workload",
    "WorkloadReference",
]

_HOME: Final[dict[str, str]] = {
    "AsyncClient": "client",
    "Client": "client",
    "ClientSettings": "exchange",
    "Decision": "decision",
    "Endpoint": "endpoint",
    "Instance": "instances",
    "ModelMetadata": "metadata",
    "NamedMetrics": "instances",
    "PrometheusAnswer": "instances",
    "RawVector": "instances",
    "ReplicaBounds": "instances",
    "RetryPolicy": "retry",
    "TensorMetadata": "metadata",
    "Workload": "instances",
    "WorkloadReference": "instances",
}
"""Public name to the module that defines it."""


def __getattr__(name: str) -> object:
    if name not in _HOME:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
