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
    from nimbusguard.client.fallback import (
        DecisionChain,
        FallbackSettings,
        Recommendation,
        Source,
    )
    from nimbusguard.client.instances import (
        Instance,
        NamedMetrics,
        PrometheusAnswer,
        RawVector,
        ReplicaBounds,
        Workload,
        WorkloadReference,
    )
    from nimbusguard.client.local_model import LocalModel, ModelIdentity
    from nimbusguard.client.metadata import ModelMetadata, TensorMetadata
    from nimbusguard.client.observation import Observation
    from nimbusguard.client.retry import RetryPolicy

__all__ = [
    "AsyncClient",
    "Client",
    "ClientSettings",
    "Decision",
    "DecisionChain",
    "Endpoint",
    "FallbackSettings",
    "Instance",
    "LocalModel",
    "ModelIdentity",
    "ModelMetadata",
    "NamedMetrics",
    "Observation",
    "PrometheusAnswer",
    "RawVector",
    "Recommendation",
    "ReplicaBounds",
    "RetryPolicy",
    "Source",
    "TensorMetadata",
    "Workload",
    "WorkloadReference",
]

_HOME: Final[dict[str, str]] = {
    "AsyncClient": "client",
    "Client": "client",
    "ClientSettings": "exchange",
    "Decision": "decision",
    "DecisionChain": "fallback",
    "Endpoint": "endpoint",
    "FallbackSettings": "fallback",
    "Instance": "instances",
    "LocalModel": "local_model",
    "ModelIdentity": "local_model",
    "ModelMetadata": "metadata",
    "NamedMetrics": "instances",
    "Observation": "observation",
    "PrometheusAnswer": "instances",
    "RawVector": "instances",
    "Recommendation": "fallback",
    "ReplicaBounds": "instances",
    "RetryPolicy": "retry",
    "Source": "fallback",
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
