"""States to try a network on, and what its answers must look like: numpy only.

The store never runs a network; whoever can (the predictor, the export) probes it with these.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import ArtifactCorrupted, NonFiniteOutput
from nimbusguard.contract.features import STATE_DIM

PROBE_SEED: Final = 20_240_229
PROBE_STATES: Final = 10_000


def probe_states(count: int = PROBE_STATES, seed: int = PROBE_SEED) -> NDArray[np.float32]:
    """States (B, F) that cover the cube [0, 1]^F, its faces included; equal for equal arguments.

    The first two are the corners of all zeros and all ones. A quarter of all other numbers lies on
    a bound, because clipping puts real states there.
    """
    rng = np.random.default_rng(seed)
    states = rng.random((count, STATE_DIM), dtype=np.float32)  # (B, F)
    on_bound = rng.random((count, STATE_DIM)) < 0.25
    states[on_bound] = np.round(states[on_bound])
    states[:1] = 0.0
    states[1:2] = 1.0
    return states


def require_q_values(q_values: NDArray[np.float32], rows: int, source: str) -> None:
    """Refuse answers that are no Q-values.

    Args:
        q_values: What a network answered to `rows` states.
        rows: The number of states.
        source: The file the network came from, for the message.

    Raises:
        ArtifactCorrupted: The shape is not (rows, A) or the type not float32.
        NonFiniteOutput: A number is NaN or infinite.
    """
    if q_values.shape != (rows, ACTION_DIM) or q_values.dtype != np.float32:
        message = (
            f"{source}: expected Q-values float32 ({rows}, {ACTION_DIM}) for {rows} states, "
            f"got {q_values.dtype} {q_values.shape}; this is not a network for this contract"
        )
        raise ArtifactCorrupted(message)
    finite = np.isfinite(q_values).all(axis=1)
    if not finite.all():
        message = (
            f"{source}: expected finite Q-values, got NaN or infinity for "
            f"{rows - int(finite.sum())} of {rows} probe states; train or export it again"
        )
        raise NonFiniteOutput(message)
