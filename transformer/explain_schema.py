"""JSON schema of an explanation, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Final

from nimbusguard.contract.actions import ACTION_NAMES
from nimbusguard.contract.features import NAMES, STATE_DIM
from transformer.explain_words import METHOD
from transformer.schema import DECISION

_NUMBER: Final = {"type": "number"}
_FEATURE: Final = {
    "type": "object",
    "required": ["name", "unit", "value", "baseline", "attribution", "preference"],
    "properties": {
        "name": {"enum": list(NAMES)},
        "unit": {"type": "string"},
        "value": {**_NUMBER, "description": "As it came, in raw units; 0 where imputed."},
        "baseline": {**_NUMBER, "description": "Of the calm workload it is compared with."},
        "attribution": {**_NUMBER, "description": "What it adds to the action's Q-value."},
        "preference": {
            "type": ["number", "null"],
            "description": "What it adds to the action's lead over the next best one.",
        },
    },
}
EXPLANATION: Final[dict[str, Any]] = {
    "type": "object",
    "required": [
        "action", "next_best_action", "q_value", "baseline_q_value", "features",
        "completeness_error", "method", "sentence",
    ],
    "properties": {
        "action": {"enum": list(ACTION_NAMES)},
        "next_best_action": {"enum": [*ACTION_NAMES, None]},
        "q_value": _NUMBER,
        "baseline_q_value": _NUMBER,
        "features": {
            "type": "array", "items": _FEATURE, "minItems": STATE_DIM, "maxItems": STATE_DIM,
        },
        "completeness_error": _NUMBER,
        "method": {"const": METHOD},
        "sentence": {"type": "string"},
    },
}  # fmt: skip
BESIDE: Final[dict[str, Any]] = {
    "predictions": {"type": "array", "items": DECISION},
    "baseline": {
        "type": "object",
        "required": list(NAMES),
        "properties": dict.fromkeys(NAMES, _NUMBER),
    },
}
