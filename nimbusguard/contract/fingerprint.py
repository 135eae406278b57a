"""One stable hash over features, bounds, missing rule and actions.

A model version carries the table that it was trained with. Two sides that agree on the fingerprint
mean the same thing by a state and by an action index; two that do not must not work together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.features import FEATURES, Feature


def feature_table(features: Sequence[Feature] = FEATURES) -> list[dict[str, Any]]:
    """The table as JSON-ready data; the order of the list is the order of the state."""
    return [
        {
            "name": feature.name,
            "unit": feature.unit,
            "min": feature.minimum,
            "max": feature.maximum,
            "absent": feature.absence.value,
        }
        for feature in features
    ]


def action_table() -> list[dict[str, Any]]:
    """The actions as JSON-ready data; the order of the list is the order of the Q-values."""
    return [{"name": action.name, "change": action.change} for action in ScaleAction]


def fingerprint_of(
    features: Sequence[Mapping[str, Any]], actions: Sequence[Mapping[str, Any]]
) -> str:
    """`sha256:<hex>` of canonical JSON (sorted keys, no spaces, bounds as floats) of both."""
    canonical = json.dumps(
        {
            "features": [
                {**feature, "min": float(feature["min"]), "max": float(feature["max"])}
                for feature in features
            ],
            "actions": [dict(action) for action in actions],
        },
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


FINGERPRINT: Final = fingerprint_of(feature_table(), action_table())
"""The fingerprint of the table that this code was built for."""
