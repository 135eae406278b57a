"""One verified model version in memory: TorchScript, frozen, warm, on one thread.

Order of distrust: the digest of every byte, the contract it was trained for, the network itself on
probe states. Whatever fails says which file and why, and nothing half-loaded is left behind.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from model_store.metadata import METADATA_FILE, TORCHSCRIPT_FILE, Metadata
from model_store.probe import probe_states, require_q_values
from model_store.verify import read_verified
from nimbusguard.contract.errors import ArtifactCorrupted, IncompatibleModel, NonFiniteOutput
from nimbusguard.contract.fingerprint import FINGERPRINT
from predictor.explain import Explainer

WARM_UP_BATCHES: Final = (1, 1, 1, 2, 2, 8, 64, 64, 1000, 1000)
"""Batch sizes run before the first request: the first call of a fresh process takes 38 ms and the
second 0.6 ms, while the executor of torch profiles and specializes; then 12 µs."""
_EXPLAINER_PROBES: Final = 64
_TWIN_RTOL: Final = 1e-4
_TWIN_ATOL: Final = 5e-4
"""How far the network in double precision may differ: half of what completeness allows. The
packaged ones differ by 2e-5."""


class LoadedModel:
    """A network that is ready to serve. Safe to be called from several threads."""

    __slots__ = ("_forward", "explainer", "metadata")

    def __init__(
        self,
        forward: Callable[[torch.Tensor], torch.Tensor],
        metadata: Metadata,
        explainer: Explainer | None = None,
    ) -> None:
        self._forward = forward
        self.metadata = metadata
        self.explainer = explainer
        """Attributions; None of a network that does not run in double precision."""

    def infer(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Q-values of states.

        Args:
            state: Float32 (B, F) in [0, 1], B at least 1. The caller has checked it.

        Returns:
            Finite Q-values, float32 (B, A).

        Raises:
            NonFiniteOutput: The network answered with NaN or infinity.
        """
        # torch warns of memory that it may not write, as the body of a request is.
        writeable = state if state.flags.writeable else state.copy()
        # No gradient guard: freezing made the weights constants, and a guard takes 1 µs of 12.
        q_values: NDArray[np.float32] = self._forward(torch.from_numpy(writeable)).numpy()  # (B, A)
        # One NaN or infinity makes the sum of squares NaN or infinite: 0.5 µs where isfinite
        # takes 1.2. A sum of large finite numbers may overflow too, so isfinite has the last word.
        if not math.isfinite(np.vdot(q_values, q_values)) and not np.isfinite(q_values).all():
            message = (
                f"version {self.metadata.version} of {self.metadata.name}: expected finite "
                "Q-values, the network returned NaN or infinity; serve another version"
            )
            raise NonFiniteOutput(message)
        return q_values


def load_version(directory: Path) -> LoadedModel:
    """Verify and load one version directory, and warm it up.

    Sets the number of torch's threads to one for the whole process: a forward of 1000 rows takes
    0.45 ms, so waking a second thread costs more than it saves, and a pod has few cores.

    Args:
        directory: Holds `metadata.json` and the files that it lists.

    Raises:
        ArtifactCorrupted: A file is missing, changed, swapped or no such network.
        IncompatibleModel: The version was trained for another contract.
        NonFiniteOutput: The network answers probe states with NaN or infinity.
    """
    verified = read_verified(directory)
    _require_contract(verified.metadata, directory)
    torch.set_num_threads(1)
    forward = _load_frozen(verified.files[TORCHSCRIPT_FILE])
    _warm_up(forward)
    explainer = _load_explainer(verified.files[TORCHSCRIPT_FILE], forward)
    return LoadedModel(forward, verified.metadata, explainer)


def _require_contract(metadata: Metadata, directory: Path) -> None:
    if metadata.fingerprint != FINGERPRINT:
        message = (
            f"{METADATA_FILE} in {directory}: expected fingerprint {FINGERPRINT}, got "
            f"{metadata.fingerprint}; serve a version that was trained for this contract, or the "
            "release of this program that it was trained for"
        )
        raise IncompatibleModel(message)


def _load_frozen(
    content: bytes, dtype: torch.dtype = torch.float32
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The forward of a TorchScript archive with its weights as constants.

    `optimize_for_inference` is left out: it was measured slower, 571 µs against 451 at 1000 rows
    and 45 against 39 at 64.
    """
    try:
        with warnings.catch_warnings():
            # torch advises against TorchScript at every call; serving it is what this is for.
            warnings.filterwarnings(
                "ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning
            )
            module = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
            forward: Callable[[torch.Tensor], torch.Tensor] = torch.jit.freeze(
                module.to(dtype).eval()
            ).forward
    except (RuntimeError, ValueError, AttributeError) as error:
        raise _not_a_network(error) from error
    return forward


def _load_explainer(
    content: bytes, served: Callable[[torch.Tensor], torch.Tensor]
) -> Explainer | None:
    """The same network in double precision for explanations, if it is the same there.

    A script may hold single-precision constants of its own; then it serves and explains nothing.
    """
    probe = torch.from_numpy(probe_states(_EXPLAINER_PROBES))
    try:
        forward = _load_frozen(content, torch.float64)
        twin = forward(probe.double())
    except (RuntimeError, ArtifactCorrupted):
        return None
    same = torch.allclose(twin, served(probe).double(), rtol=_TWIN_RTOL, atol=_TWIN_ATOL)
    return Explainer(forward) if twin.dtype is torch.float64 and same else None


def _warm_up(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Run probe states in the batch sizes that matter, and refuse answers that are no Q-values."""
    for rows in WARM_UP_BATCHES:
        try:
            q_values = forward(torch.from_numpy(probe_states(rows))).numpy()
        except (RuntimeError, AttributeError, TypeError) as error:
            raise _not_a_network(error) from error
        require_q_values(q_values, rows, TORCHSCRIPT_FILE)


def _not_a_network(error: Exception) -> ArtifactCorrupted:
    lines = str(error).strip().splitlines()
    return ArtifactCorrupted(
        f"{TORCHSCRIPT_FILE}: expected a TorchScript network of states (B, 11) to Q-values (B, 5), "
        f"got {type(error).__name__}: {lines[0] if lines else 'no reason given'}"
    )
