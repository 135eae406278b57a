"""Q-values to decisions, for a whole batch at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_NAMES, CHANGES
from nimbusguard.contract.messages import RowOptions
from nimbusguard.contract.normalization import names_of
from nimbusguard.contract.tensors import OutputTensor
from nimbusguard.policy.greedy import Choice, choose
from transformer.preprocess import Prepared

_CHANGES: tuple[int, ...] = tuple(int(change) for change in CHANGES)
_ACTION_BYTES = np.array([name.encode() for name in ACTION_NAMES], dtype=object)
_BITS = 1 << np.arange(len(ACTION_NAMES), dtype=np.int64)
_NAMES_BY_MASK: tuple[list[str], ...] = tuple(
    [name for index, name in enumerate(ACTION_NAMES) if bits >> index & 1]
    for bits in range(1 << len(ACTION_NAMES))
)
"""The names of allowed actions, by the mask as a number: 32 lists that are made once."""


class Answering(NamedTuple):
    """Who answered."""

    model_name: str
    model_version: str
    fingerprint: str


@dataclass(frozen=True)
class DecisionBatch:
    """The decisions of one batch."""

    prepared: Prepared
    q_values: NDArray[np.float32]
    """(B, A)."""
    choice: Choice
    answering: Answering

    @cached_property
    def documents(self) -> list[dict[str, Any]]:
        """Every decision as the V1 answer shows it; made once for all requests of the batch."""
        prepared, choice = self.prepared, self.choice
        name, version, fingerprint = self.answering
        any_clipped: NDArray[np.bool_] = np.logical_or.reduce(prepared.clipped, axis=1)
        any_imputed: NDArray[np.bool_] = np.logical_or.reduce(prepared.imputed, axis=1)
        masks: list[int] = (choice.allowed @ _BITS).tolist()
        columns = zip(
            choice.action.tolist(),
            prepared.current.tolist(),
            choice.target.tolist(),
            self.q_values.tolist(),
            choice.margin.tolist(),
            masks,
            any_clipped.tolist(),
            any_imputed.tolist(),
            strict=True,
        )
        return [
            {
                "action": ACTION_NAMES[action],
                "action_index": action,
                "replica_change": _CHANGES[action],
                "current_replicas": current,
                "target_replicas": target,
                "q_values": q_values,
                "q_margin": margin,
                "allowed_actions": _NAMES_BY_MASK[mask],
                "clipped_features": names_of(prepared.clipped[row]) if clipped else [],
                "imputed_features": names_of(prepared.imputed[row]) if imputed else [],
                "model_name": name,
                "model_version": version,
                "fingerprint": fingerprint,
            }
            for row, (
                action,
                current,
                target,
                q_values,
                margin,
                mask,
                clipped,
                imputed,
            ) in enumerate(columns)
        ]


class Decisions(NamedTuple):
    """One request's share of a batch."""

    batch: DecisionBatch
    start: int
    stop: int
    options: Mapping[int, RowOptions]

    def documents(self) -> list[dict[str, Any]]:
        """The request's decisions; a workload that the caller named is named again."""
        documents = self.batch.documents[self.start : self.stop]
        for row, options in self.options.items():
            if options.workload is not None:
                documents[row] = {"workload": options.workload, **documents[row]}
        return documents

    def tensors(self) -> Sequence[OutputTensor]:
        """The request's decisions as V2 outputs."""
        part = slice(self.start, self.stop)
        action = self.batch.choice.action[part]
        return (
            OutputTensor("action_index", "INT64", action),
            OutputTensor("action", "BYTES", _ACTION_BYTES[action]),
            OutputTensor("target_replicas", "INT64", self.batch.choice.target[part]),
            OutputTensor("q_values", "FP32", self.batch.q_values[part]),
        )


def decide(
    prepared: Prepared, q_values: NDArray[np.float32], answering: Answering
) -> DecisionBatch:
    """Choose an action for each row."""
    choice = choose(q_values, prepared.current, prepared.minimum, prepared.maximum)
    return DecisionBatch(prepared, q_values, choice, answering)
