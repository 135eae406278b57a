"""The hop to the predictor: one interface, whichever protocol carries it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import (
    IncompatibleModel,
    InvalidRequest,
    NimbusGuardError,
    NonFiniteOutput,
    NotFound,
    PredictorUnavailable,
)
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.telemetry.spans import Span
from serving.calls import Trace
from transformer.explain_tensors import HopExplanation

_MAX_SHOWN: Final = 100
"""Characters of a foreign value in a message."""
_MAX_TRACED: Final = 15
"""Request ids that one hop names: with 128 characters each, 2 KiB of the 8 that gRPC's metadata
may have."""
_NOT_SAMPLED: Final = b"00-%b-%b-00" % (
    secrets.token_hex(16).encode(),
    secrets.token_hex(8).encode(),
)
"""A trace that nobody records; one for all batches of a process."""


class HopAnswer(NamedTuple):
    """What the predictor said."""

    q_values: NDArray[np.float32]
    """(B, A), finite."""
    model_version: str
    fingerprint: str


class PredictorClient(Protocol):
    """Asks the predictor."""

    @property
    def address(self) -> str:
        """Host and port, for messages."""

    async def infer(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopAnswer:
        """Q-values of a batch of states (B, F).

        Args:
            state: The states.
            traces: Of the requests in the batch.
            deadline_at: On the clock of `time.perf_counter`.

        Raises:
            PredictorUnavailable: It could not be reached, or is not ready, or answered garbage.
            IncompatibleModel: It serves another feature table.
            DeadlineExceeded: It was too slow.
            NonFiniteOutput: Its network gave NaN or infinity.
        """

    async def explain(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopExplanation:
        """Attributions of a batch of states (B, F); arguments and errors as for `infer`."""

    async def close(self) -> None:
        """Let go of connections."""


def require_identity(model_version: object, fingerprint: object) -> None:
    """Refuse an answer that does not come from a network for our feature table.

    Raises:
        IncompatibleModel: The fingerprint is not ours.
        PredictorUnavailable: It does not say which version answered.
    """
    if fingerprint != FINGERPRINT:
        message = (
            f"incompatible model: expected fingerprint {FINGERPRINT}, the predictor answered with "
            f"{_short(fingerprint)} (version {_short(model_version)}); serve a version that was "
            "trained with this feature table"
        )
        raise IncompatibleModel(message)
    if not isinstance(model_version, str) or not model_version:
        message = f"predictor: expected a model_version, got {_short(model_version)}"
        raise PredictorUnavailable(message)


def require_tensor(datatype: object, shape: object, rows: int) -> None:
    """Refuse a tensor that is not FP32 (B, A), before its bytes are read as if it were.

    Raises:
        PredictorUnavailable: It is none.
    """
    if datatype != "FP32" or shape != [rows, ACTION_DIM]:
        message = (
            f"predictor: expected q_values FP32 of shape [{rows}, {ACTION_DIM}], "
            f"got {_short(datatype)} of shape {_short(shape)}"
        )
        raise PredictorUnavailable(message)


def require_finite(q_values: NDArray[np.float32]) -> None:
    """Refuse an answer that is none.

    Raises:
        NonFiniteOutput: A Q-value is NaN or infinite.
    """
    if not np.isfinite(q_values).all():
        message = "predictor: the network returned NaN or infinity"
        raise NonFiniteOutput(message)


def authority(host: str, port: int) -> str:
    """An address as URLs write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def refusal(status: int, text: str) -> NimbusGuardError:
    """A predictor's HTTP error as ours; its 4xx stay 4xx, all else is its unavailability."""
    said = f"predictor answered {status}: {text[:500]}"
    if status == 400:
        return InvalidRequest(said)
    if status == 404:
        return NotFound(said)
    if status == 500 and "NaN or infinity" in text:
        return NonFiniteOutput(said)
    return PredictorUnavailable(said)


def joined_ids(traces: Sequence[Trace]) -> bytes:
    """The batch's request ids as one header value."""
    return b",".join([trace.request_id for trace in traces[:_MAX_TRACED]])


def handed_on(trace: Trace, hop: Span) -> Trace:
    """What travels with a batch that is traced: the span of the hop."""
    return Trace(trace.request_id, hop.traceparent, hop.tracestate)


def untraced(trace: Trace) -> Trace:
    """What travels with a batch that is not, where others are: a word that says no.

    Without it the predictor would throw the dice itself, and begin traces in the middle.
    """
    return Trace(trace.request_id, _NOT_SAMPLED)


def first_traced(traces: Sequence[Trace]) -> Trace | None:
    """The first request of a batch that takes part in a trace; the hop becomes its child."""
    for trace in traces:
        if trace.traceparent is not None:
            return trace
    return None


def error_text(document: Any) -> str:
    """The message of an error body, or what there is instead."""
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        return str(document["error"])
    return repr(document)
