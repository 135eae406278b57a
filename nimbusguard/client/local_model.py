"""A model version in this process: its ONNX file with onnxruntime, without torch and without IO.

The bytes come from whoever verified them (`model_store` does). The answer is the same `Decision`
that the transformer gives, made by the same functions of the contract and the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.client.decision import Decision
from nimbusguard.client.observation import Observation, stack
from nimbusguard.contract.actions import ACTION_DIM, ScaleAction
from nimbusguard.contract.errors import (
    ArtifactCorrupted,
    IncompatibleModel,
    InvalidRequest,
    NonFiniteOutput,
)
from nimbusguard.contract.features import STATE_DIM
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.contract.normalization import NO_FEATURES, impute, names_of, normalize
from nimbusguard.policy.greedy import choose

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_ERRORS_ONLY: Final = 3
"""onnxruntime's log severity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model this is."""

    name: str
    version: str
    fingerprint: str


class LocalModel:
    """One loaded version; safe for many threads at once."""

    def __init__(self, identity: ModelIdentity, session: InferenceSession) -> None:
        """Use `from_onnx`, which checks the session."""
        self.identity = identity
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name

    @classmethod
    def from_onnx(cls, content: bytes, identity: ModelIdentity) -> LocalModel:
        """Load a network and run it once.

        Args:
            content: `model.onnx` of the version, verified by the caller.
            identity: What its metadata says.

        Raises:
            IncompatibleModel: It was trained for another feature table.
            ArtifactCorrupted: onnxruntime cannot read it, or its shapes are not (B, 11) to (B, 5).
            NonFiniteOutput: It returns NaN or infinity for a probe state.
        """
        if identity.fingerprint != FINGERPRINT:
            message = f"fingerprint: expected {FINGERPRINT}, got {identity.fingerprint}"
            raise IncompatibleModel(message)
        model = cls(identity, _session(content))
        corners = np.array([[0.0], [0.5], [1.0]], dtype=np.float32)
        model.q_values(np.broadcast_to(corners, (3, STATE_DIM)).copy())
        return model

    def q_values(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Q-values (B, A) of states (B, F).

        Raises:
            ArtifactCorrupted: The network cannot be run, or answers with another shape.
            NonFiniteOutput: It returned NaN or infinity.
        """
        try:
            output: NDArray[np.float32] = self._session.run([self._output], {self._input: state})[0]
        except _runtime_errors() as exc:
            message = f"{self._named()}: expected (B, {STATE_DIM}) to be accepted, got {exc}"
            raise ArtifactCorrupted(message) from exc
        if output.shape != (len(state), ACTION_DIM):
            message = (
                f"{self._named()}: expected Q-values ({len(state)}, {ACTION_DIM}), "
                f"got {output.shape}"
            )
            raise ArtifactCorrupted(message)
        if not np.isfinite(output).all():
            message = f"{self._named()}: expected finite Q-values, got NaN or infinity"
            raise NonFiniteOutput(message)
        return output

    def decide(
        self,
        observations: Sequence[Observation],
        absent_as_zero: NDArray[np.bool_] = NO_FEATURES,
    ) -> list[Decision]:
        """One decision an observation, as the transformer would make it.

        Args:
            observations: B of them; B may be 0.
            absent_as_zero: Mask (F,) of features whose absence was declared to mean 0.

        Raises:
            InvalidRequest: A feature is absent where that is refused.
            NonFiniteOutput: The network returned NaN or infinity.
        """
        if not observations:
            return []
        rows = stack(observations)
        imputed = impute(rows.raw, absent_as_zero)
        if imputed.refused.any():
            row = int(np.flatnonzero(imputed.refused.any(axis=1))[0])
            names = ", ".join(names_of(imputed.refused[row]))
            message = f"observations[{row}]: {names}: expected a number, got none"
            raise InvalidRequest(message)
        state, clipped = normalize(imputed.values)
        q_values = self.q_values(state)
        choice = choose(q_values, rows.current, rows.minimum, rows.maximum)
        return [
            Decision(
                action=ScaleAction(int(choice.action[row])),
                current_replicas=int(rows.current[row]),
                q_values=tuple(q_values[row].tolist()),
                q_margin=float(choice.margin[row]),
                allowed_actions=tuple(a for a in ScaleAction if choice.allowed[row, a]),
                clipped_features=tuple(names_of(clipped[row])),
                imputed_features=tuple(names_of(imputed.imputed[row])),
                model_name=self.identity.name,
                model_version=self.identity.version,
                fingerprint=self.identity.fingerprint,
            )
            for row in range(len(observations))
        ]

    def _named(self) -> str:
        return f"{self.identity.name} version {self.identity.version}"


def _session(content: bytes) -> InferenceSession:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    # One row takes microseconds; a thread pool would only take CPU from the loop it serves.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as exc:
        message = f"model.onnx: expected an ONNX network, got {exc}"
        raise ArtifactCorrupted(message) from exc
    shapes = [len(session.get_inputs()), len(session.get_outputs())]
    if shapes != [1, 1] or session.get_inputs()[0].shape[1:] != [STATE_DIM]:
        message = (
            f"model.onnx: expected one input (B, {STATE_DIM}) and one output, got "
            + ", ".join(
                f"{tensor.name} {tensor.shape}"
                for tensor in (*session.get_inputs(), *session.get_outputs())
            )
        )
        raise ArtifactCorrupted(message)
    return session


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: classes without a common base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (kind for kind in vars(state).values() if isinstance(kind, type))
    return (RuntimeError, ValueError, *(kind for kind in own if issubclass(kind, Exception)))
