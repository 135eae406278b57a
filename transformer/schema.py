"""What goes in and comes out: V2 tensors, and JSON schemas for the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nimbusguard.contract.actions import ACTION_DIM, ACTION_NAMES
from nimbusguard.contract.features import FEATURES, NAMES, STATE_DIM
from nimbusguard.contract.tensors import TensorSpec

INPUTS: Final = (
    TensorSpec("raw_metrics", ("FP64", "FP32"), (-1, STATE_DIM)),
    TensorSpec("current_replicas", ("INT64",), (-1,), required=False),
    TensorSpec("min_replicas", ("INT64",), (-1,), required=False),
    TensorSpec("max_replicas", ("INT64",), (-1,), required=False),
)
OUTPUTS: Final = (
    TensorSpec("action_index", ("INT64",), (-1,)),
    TensorSpec("action", ("BYTES",), (-1,)),
    TensorSpec("target_replicas", ("INT64",), (-1,)),
    TensorSpec("q_values", ("FP32",), (-1, ACTION_DIM)),
)
EXPLAINED_OUTPUTS: Final = (*OUTPUTS, TensorSpec("attributions", ("FP32",), (-1, STATE_DIM)))
"""With the attributions to the chosen action's Q-value."""

_NUMBER: Final = {"type": ["number", "string", "null"]}
_REPLICAS: Final = {
    "current_replicas": {"type": "integer", "minimum": 0},
    "min_replicas": {"type": "integer", "minimum": 0},
    "max_replicas": {"type": "integer", "minimum": 0},
}
_WORKLOAD: Final = {
    "type": ["string", "object"],
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    "description": "Named again in the decision.",
}
_NAMED: Final = {
    "type": "object",
    "title": "Named features",
    "additionalProperties": False,
    "properties": {
        **{
            feature.name: {**_NUMBER, "description": f"{feature.meaning}, {feature.unit}"}
            for feature in FEATURES
        },
        **_REPLICAS,
        "workload": _WORKLOAD,
    },
}
_ARRAY: Final = {
    "type": "array",
    "title": "Features in order",
    "description": ", ".join(NAMES),
    "items": _NUMBER,
    "minItems": STATE_DIM,
    "maxItems": STATE_DIM,
}
_PROMETHEUS: Final = {
    "type": "object",
    "title": "A Prometheus instant-query answer",
    "required": ["prometheus"],
    "additionalProperties": False,
    "properties": {
        "prometheus": {"type": "object"},
        **_REPLICAS,
        "workload": _WORKLOAD,
    },
}
_REFERENCE: Final = {
    "type": "object",
    "title": "A workload to be looked up",
    "required": ["workload"],
    "additionalProperties": False,
    "properties": {
        "workload": {
            "type": "object",
            "required": ["namespace", "deployment"],
            "additionalProperties": False,
            "properties": {"namespace": {"type": "string"}, "deployment": {"type": "string"}},
        },
        **_REPLICAS,
    },
}
_NAMES: Final = {"type": "array", "items": {"enum": list(NAMES)}}

EXAMPLE: Final = {
    "cpu_utilization": 0.93,
    "memory_utilization": 0.55,
    "network_io_rate": 120_000,
    "request_rate": 85,
    "pod_count": 4,
    "response_time_p95": 0.31,
    "error_rate": 0.002,
    "queue_depth": 12,
    "cpu_throttling": 0.2,
    "memory_pressure": 0.6,
    "node_utilization": 0.5,
}
EXAMPLE_TENSORS: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "raw_metrics",
        "datatype": "FP64",
        "shape": [1, STATE_DIM],
        "data": list(EXAMPLE.values()),
    },
    {"name": "max_replicas", "datatype": "INT64", "shape": [1], "data": [20]},
)
CLUSTER_STATE: Final = {
    "type": "object",
    "title": "One instance, in an older form",
    "required": ["cluster_state"],
    "additionalProperties": False,
    "properties": {
        "cluster_state": _NAMED,
        **_REPLICAS,
        "workload": _WORKLOAD,
    },
}
INSTANCE: Final[dict[str, Any]] = {"anyOf": [_NAMED, _ARRAY, _PROMETHEUS, _REFERENCE]}
DECISION: Final[dict[str, Any]] = {
    "type": "object",
    "required": [
        "action", "action_index", "replica_change", "current_replicas", "target_replicas",
        "q_values", "q_margin", "allowed_actions", "clipped_features", "imputed_features",
        "model_name", "model_version", "fingerprint",
    ],
    "properties": {
        "action": {"enum": list(ACTION_NAMES)},
        "action_index": {"type": "integer", "minimum": 0, "maximum": ACTION_DIM - 1},
        "replica_change": {"type": "integer", "minimum": -2, "maximum": 2},
        "current_replicas": {"type": "integer"},
        "target_replicas": {"type": "integer"},
        "q_values": {
            "type": "array",
            "items": {"type": "number"},
            "minItems": ACTION_DIM,
            "maxItems": ACTION_DIM,
        },
        "q_margin": {"type": "number"},
        "allowed_actions": {"type": "array", "items": {"enum": list(ACTION_NAMES)}},
        "clipped_features": _NAMES,
        "imputed_features": _NAMES,
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "fingerprint": {"type": "string"},
    },
}  # fmt: skip
