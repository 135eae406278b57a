"""The transformer's answer as a value, checked on receipt.

An operator acts on a decision without looking at it again, so everything that could be wrong with
one is refused here: an unknown action, a count that does not follow from it, a Q-value that is
`null` (which is what NaN becomes on the wire), a model trained for another feature table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import orjson

from nimbusguard.contract.actions import ACTION_DIM, ACTION_NAMES, ScaleAction
from nimbusguard.contract.errors import IncompatibleModel, NonFiniteOutput, PredictorUnavailable
from nimbusguard.contract.features import NAMES
from nimbusguard.contract.fingerprint import FINGERPRINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with one workload, and why."""

    action: ScaleAction
    current_replicas: int
    q_values: tuple[float, ...]
    """One finite value an action, in the order of `ScaleAction`."""
    q_margin: float
    """Q-value of the action minus that of the next best allowed one; 0 if there is none."""
    allowed_actions: tuple[ScaleAction, ...]
    """In the order of `ScaleAction`; always holds `NO_ACTION`."""
    clipped_features: tuple[str, ...]
    imputed_features: tuple[str, ...]
    model_name: str
    model_version: str
    fingerprint: str

    @property
    def action_index(self) -> int:
        """Position of the action's Q-value."""
        return int(self.action)

    @property
    def replica_change(self) -> int:
        """Replicas added; negative when removed."""
        return self.action.change

    @property
    def target_replicas(self) -> int:
        """Replicas after the action."""
        return self.current_replicas + self.action.change

    def to_dict(self) -> dict[str, Any]:
        """The wire form, key by key as the transformer sends it."""
        return {
            "action": self.action.name,
            "action_index": self.action_index,
            "replica_change": self.replica_change,
            "current_replicas": self.current_replicas,
            "target_replicas": self.target_replicas,
            "q_values": list(self.q_values),
            "q_margin": self.q_margin,
            "allowed_actions": [action.name for action in self.allowed_actions],
            "clipped_features": list(self.clipped_features),
            "imputed_features": list(self.imputed_features),
            "model_name": self.model_name,
            "model_version": self.model_version,
            "fingerprint": self.fingerprint,
        }


def decisions_from(body: bytes, *, expected: int, fingerprint: str = FINGERPRINT) -> list[Decision]:
    """Read the answer to a V1 prediction.

    Args:
        body: The response body.
        expected: How many instances were sent.
        fingerprint: The feature table that the caller was built for.

    Raises:
        PredictorUnavailable: The body is no well-formed answer to the question.
        NonFiniteOutput: A Q-value is null or not finite.
        IncompatibleModel: The model was trained with another feature table.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        message = f"answer: expected JSON, got {body[:80]!r}"
        raise PredictorUnavailable(message) from exc
    rows = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        message = f'answer: expected an object with a list "predictions", got {body[:80]!r}'
        raise PredictorUnavailable(message)
    if len(rows) != expected:
        message = f"predictions: expected {expected}, one an instance, got {len(rows)}"
        raise PredictorUnavailable(message)
    return [
        _Row(f"predictions[{index}]", row).decision(fingerprint) for index, row in enumerate(rows)
    ]


class _Row:
    """One element of `predictions`, read field by field; every refusal names its path."""

    __slots__ = ("_path", "_row")

    def __init__(self, path: str, row: object) -> None:
        self._path = path
        if not isinstance(row, Mapping):
            self._refuse("", "an object", row)
        self._row: Mapping[str, Any] = row

    def decision(self, fingerprint: str) -> Decision:
        found = self._text("fingerprint")
        if found != fingerprint:
            message = (
                f"{self._path}.fingerprint: expected {fingerprint}, got {found}; "
                "serve a model of this feature table or update the caller"
            )
            raise IncompatibleModel(message)
        decision = Decision(
            action=self._action("action", self._row.get("action")),
            current_replicas=self._count("current_replicas"),
            q_values=self._q_values(),
            q_margin=self._finite("q_margin", self._row.get("q_margin")),
            allowed_actions=tuple(
                self._action("allowed_actions", name) for name in self._list("allowed_actions")
            ),
            clipped_features=self._features("clipped_features"),
            imputed_features=self._features("imputed_features"),
            model_name=self._text("model_name"),
            model_version=self._text("model_version"),
            fingerprint=found,
        )
        self._check(decision)
        return decision

    def _check(self, decision: Decision) -> None:
        """What a field says must follow from the others."""
        for name in ("action_index", "replica_change", "target_replicas"):
            if self._count(name, minimum=None) != getattr(decision, name):
                expected = f"{getattr(decision, name)} for {decision.action.name}"
                self._refuse(f".{name}", expected, self._row[name])
        if decision.target_replicas < 0:
            self._refuse(".target_replicas", "at least 0", decision.target_replicas)
        allowed = decision.allowed_actions
        if list(allowed) != sorted(set(allowed)) or ScaleAction.NO_ACTION not in allowed:
            wanted = "distinct actions in order, NO_ACTION among them"
            self._refuse(".allowed_actions", wanted, self._row["allowed_actions"])
        if decision.action not in allowed:
            self._refuse(".action", "an allowed action", decision.action.name)
        if decision.q_values[decision.action] < max(decision.q_values[a] for a in allowed):
            wanted = "the allowed action with the highest Q-value"
            self._refuse(".action", wanted, decision.action.name)
        if decision.q_margin < 0.0:
            self._refuse(".q_margin", "at least 0", decision.q_margin)

    def _q_values(self) -> tuple[float, ...]:
        values = self._list("q_values")
        if len(values) != ACTION_DIM:
            self._refuse(".q_values", f"{ACTION_DIM} numbers", values)
        return tuple(self._finite(f"q_values[{i}]", value) for i, value in enumerate(values))

    def _finite(self, name: str, value: object) -> float:
        if value is None:
            message = (
                f"{self._path}.{name}: expected a finite number, got null; "
                "the network returned NaN or infinity"
            )
            raise NonFiniteOutput(message)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            self._refuse(f".{name}", "a finite number", value)
        return float(value)

    def _count(self, name: str, *, minimum: int | None = 0) -> int:
        value = self._row.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(f".{name}", "a whole number", value)
        if minimum is not None and value < minimum:
            self._refuse(f".{name}", f"at least {minimum}", value)
        return value

    def _text(self, name: str) -> str:
        value = self._row.get(name)
        if not isinstance(value, str) or not value:
            self._refuse(f".{name}", "a non-empty string", value)
        return value

    def _list(self, name: str) -> list[Any]:
        value = self._row.get(name)
        if not isinstance(value, list):
            self._refuse(f".{name}", "a list", value)
        return value

    def _action(self, field: str, name: object) -> ScaleAction:
        if not isinstance(name, str) or name not in _ACTIONS:
            self._refuse(f".{field}", f"one of {', '.join(ACTION_NAMES)}", name)
        return _ACTIONS[name]

    def _features(self, name: str) -> tuple[str, ...]:
        values = self._list(name)
        for value in values:
            if value not in NAMES:
                self._refuse(f".{name}", "names of features", value)
        return tuple(values)

    def _refuse(self, field: str, expected: str, got: object) -> NoReturn:
        message = f"{self._path}{field}: expected {expected}, got {got!r}"
        raise PredictorUnavailable(message)


_ACTIONS: Final[dict[str, ScaleAction]] = {action.name: action for action in ScaleAction}
