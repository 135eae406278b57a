"""JSON schemas of the console's documents: what `docs/console.md` describes and tests hold."""

from __future__ import annotations

from typing import Any, Final

from nimbusguard.contract.actions import ACTION_NAMES
from nimbusguard.contract.features import NAMES as FEATURES

_NUMBER: Final = {"type": "number"}
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_COUNTS: Final = {"type": "object", "additionalProperties": _COUNT}
_TEXTS: Final = {"type": "array", "items": _TEXT}


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(**properties: Any) -> dict[str, Any]:
    """An object with exactly these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_SUMMARY: Final[dict[str, Any]] = {
    "id": _TEXT,
    "workload": _TEXT,
    "target": _TEXT,
    "at_s": _NUMBER,
    "mode": {"enum": ["shadow", "advise", "act", "asked"]},
    "arm": {"enum": ["stable", "canary", "shadow"]},
    "source": {"enum": ["kserve", "local_model", "hpa_rule", "hold"]},
    "model_version": _maybe(_TEXT),
    "action": {"enum": list(ACTION_NAMES)},
    "current_replicas": _COUNT,
    "target_replicas": _COUNT,
    "applied": _FLAG,
    "guard": _TEXTS,
    "load": _maybe(_NUMBER),
    "p95_s": _maybe(_NUMBER),
    "cpu": _maybe(_NUMBER),
    "hpa_replicas": _maybe(_COUNT),
}
_WHOLE: Final[dict[str, Any]] = dict(
    **_SUMMARY,
    features=_object(**dict.fromkeys(FEATURES, _maybe(_NUMBER))),
    q_values=_maybe({"type": "array", "items": _NUMBER, "minItems": 5, "maxItems": 5}),
    allowed={"type": "array", "items": {"enum": list(ACTION_NAMES)}},
)
_UNSEEN: Final = _object(
    workload=_TEXT, target=_TEXT, mode=_TEXT, paused=_FLAG, problem=_maybe(_TEXT)
)
_LIST: Final = {"type": "array", "items": _object(**_SUMMARY, hpa_held=_maybe(_COUNT))}
SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "overview": _object(
        server={"enum": ["operator", "transformer"]},
        now_s=_NUMBER,
        workloads=_COUNT,
        changes=_COUNT,
        problems=_COUNT,
        by_mode=_COUNTS,
        by_source=_COUNTS,
        by_action=_COUNTS,
        by_version=_COUNTS,
        canary=_maybe(_object(workloads=_COUNT, compared=_COUNT, disagree=_COUNT)),
        leader=_maybe(_FLAG),
        recorded=_FLAG,
    ),
    "workloads": _object(
        now_s=_NUMBER,
        total=_COUNT,
        matching=_COUNT,
        page=_COUNT,
        pages=_COUNT,
        rows={
            "type": "array",
            "items": {
                "anyOf": [
                    _object(**_SUMMARY, changes=_COUNT, paused=_FLAG, problem=_maybe(_TEXT)),
                    _UNSEEN,
                ]
            },
        },
    ),
    "workload": _object(
        now_s=_NUMBER,
        from_s=_NUMBER,
        until_s=_NUMBER,
        about=_object(
            workload=_TEXT,
            target=_maybe(_TEXT),
            mode=_maybe(_TEXT),
            paused=_FLAG,
            problem=_maybe(_TEXT),
            min_replicas=_maybe(_COUNT),
            max_replicas=_maybe(_COUNT),
            interval_s=_maybe(_NUMBER),
            objective_latency_s=_maybe(_NUMBER),
            pause_command=_maybe(_TEXT),
            resume_command=_maybe(_TEXT),
            stop_all_command=_maybe(_TEXT),
        ),
        last=_object(**_WHOLE),
        canary=_maybe(_object(**_WHOLE, compared=_COUNT, disagree=_COUNT)),
        comparison=_object(
            verdict={"enum": ["better", "same", "worse", "unknown"]},
            reason=_TEXT,
            decisions=_COUNT,
            changes=_COUNT,
            covered_s=_NUMBER,
            pod_hours=_NUMBER,
            hpa_pod_hours=_maybe(_NUMBER),
            violating_share=_maybe(_NUMBER),
            hpa_starved_share=_maybe(_NUMBER),
        ),
        recent=_LIST,
        history=_LIST,
    ),
    "explanation": _object(
        id=_TEXT,
        model_version=_TEXT,
        same_version=_FLAG,
        same_action=_FLAG,
        explanation={"type": "object", "required": ["sentence", "features", "action"]},
    ),
}
"""By the document's name."""
