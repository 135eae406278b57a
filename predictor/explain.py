"""Integrated gradients: how much each feature moved each Q-value away from the baseline's.

The attribution of feature i to action a is the integral of dQ_a/dx_i along the straight path from
the baseline to the state, times the feature's distance. Its sum over the features is the difference
of the Q-values at both ends, which is called completeness; here it holds to 1e-3 by construction
of the rule and is checked, not assumed.

A fixed number of steps does not get there: the network is a steep ReLU network, and 256 steps miss
completeness by 0.25 on the packaged version 1. Along the path the Q-values are smooth between
kinks, so each piece of the path is integrated by two Gauss-Legendre points, exact for cubics, and a
piece whose error is too large is cut in two: where the tangents of its two sides meet, which is the
kink itself if there is one, else in the middle.

Source: Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.baseline import BASELINE_STATE
from nimbusguard.contract.features import STATE_DIM

Forward = Callable[[Tensor], Tensor]

TOLERANCE: Final = 1e-3
"""Largest accepted difference between a sum of attributions and the difference of Q-values."""
_FIRST_PIECES: Final = 8
_ERROR_PER_LENGTH: Final = 2e-4
"""Error that a piece may have for each unit of the path, of which the whole has one."""
_LEAST_ERROR: Final = 1e-6
"""Error that any piece may have, however short: beside a square root at its zero, pieces shrink
faster than their error does. A path has some hundred pieces."""
_MOST_ROUNDS: Final = 40
_BISECT_EVERY: Final = 3
"""In every third round pieces are halved whatever their tangents say, so that none stays long."""
_NODE: Final = 0.5 / math.sqrt(3.0)
"""Distance of a Gauss-Legendre point from the middle, as share of the piece's length."""


class Attribution(NamedTuple):
    """What explains the Q-values of a batch."""

    q_values: NDArray[np.float32]
    """(B, A)."""
    baseline_q_values: NDArray[np.float32]
    """(B, A); the same in every row."""
    attributions: NDArray[np.float32]
    """(B, A, F); a sum over F is the difference of the two above."""
    completeness_error: NDArray[np.float32]
    """(B,); the most that such a sum misses the difference by, over the actions."""


class _Pieces(NamedTuple):
    """Pieces of the paths of a batch, P of them, from `low` to `high` in [0, 1]."""

    row: Tensor
    """(P,) whose path."""
    low: Tensor
    high: Tensor
    q_low: Tensor
    """(P, A) at the lower end."""
    q_high: Tensor

    def where(self, mask: Tensor) -> _Pieces:
        return _Pieces(*(part[mask] for part in self))


class Explainer:
    """Attributions of one network.

    Args:
        forward: The network in double precision, float64 (B, F) to (B, A), differentiable. In
            single precision the rounding of a Q-value hides the error of a short piece.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._baseline = torch.from_numpy(BASELINE_STATE.astype(np.float64))

    def explain(self, state: NDArray[np.float32]) -> Attribution:
        """Attributions of states (B, F) in [0, 1], B at least 1.

        The work grows with the kinks on the path: some hundred points a row.
        """
        ends = torch.from_numpy(state.astype(np.float64))  # (B, F)
        paths = ends - self._baseline  # (B, F)
        pieces = self._first_pieces(paths)
        total = torch.zeros(len(ends), ACTION_DIM, STATE_DIM, dtype=torch.float64)
        for turn in range(1, _MOST_ROUNDS + 1):
            early, late = self._gradients(paths, pieces)
            length = pieces.high - pieces.low  # (P,)
            parts = (early + late) * (length / 2.0)[:, None, None]  # (P, A, F)
            missed = (pieces.q_high - pieces.q_low - parts.sum(2)).abs().amax(1)  # (P,)
            good = missed <= torch.clamp(_ERROR_PER_LENGTH * length, min=_LEAST_ERROR)
            if turn == _MOST_ROUNDS:
                good = torch.ones_like(good)
            total.index_add_(0, pieces.row[good], parts[good])
            bad = ~good
            if not bad.any():
                break
            left = pieces.where(bad)
            slopes = early[bad].sum(2), late[bad].sum(2)  # (P, A) each
            pieces = self._cut(paths, left, _cuts(left, *slopes, halve=turn % _BISECT_EVERY == 0))
        return self._attribution(ends, total)

    def _attribution(self, ends: Tensor, total: Tensor) -> Attribution:
        with torch.no_grad():
            q_values = self._forward(ends)  # (B, A)
            q_baseline = self._forward(self._baseline[None]).expand_as(q_values)  # (B, A)
        error = (total.sum(2) - (q_values - q_baseline)).abs().amax(1)  # (B,)
        return Attribution(
            *(
                part.numpy().astype(np.float32, order="C")
                for part in (q_values, q_baseline, total, error)
            )
        )

    def _first_pieces(self, paths: Tensor) -> _Pieces:
        """Equal pieces of every path."""
        rows = len(paths)
        edges = torch.linspace(0.0, 1.0, _FIRST_PIECES + 1, dtype=torch.float64)
        every = torch.arange(rows).repeat_interleave(len(edges))
        q_values = self._q_values(paths, every, edges.repeat(rows)).view(
            rows, len(edges), ACTION_DIM
        )
        return _Pieces(
            torch.arange(rows).repeat_interleave(_FIRST_PIECES),
            edges[:-1].repeat(rows),
            edges[1:].repeat(rows),
            q_values[:, :-1].reshape(-1, ACTION_DIM),
            q_values[:, 1:].reshape(-1, ACTION_DIM),
        )

    def _cut(self, paths: Tensor, pieces: _Pieces, at: Tensor) -> _Pieces:
        """Two pieces of each, cut at places (P,) on the paths."""
        row, low, high, q_low, q_high = pieces
        between = self._q_values(paths, row, at)
        return _Pieces(
            torch.cat((row, row)),
            torch.cat((low, at)),
            torch.cat((at, high)),
            torch.cat((q_low, between)),
            torch.cat((between, q_high)),
        )

    def _q_values(self, paths: Tensor, row: Tensor, at: Tensor) -> Tensor:
        """Q-values (P, A) at places (P,) on the paths of rows (P,)."""
        with torch.no_grad():
            return self._forward(self._baseline + at[:, None] * paths[row])

    def _gradients(self, paths: Tensor, pieces: _Pieces) -> tuple[Tensor, Tensor]:
        """Gradients times the path (P, A, F), at the first and the second point of each piece."""
        middle, length = (pieces.low + pieces.high) / 2.0, pieces.high - pieces.low
        at = torch.cat((middle - _NODE * length, middle + _NODE * length))  # (2P,)
        along = paths[pieces.row].repeat(2, 1)  # (2P, F)
        points = (self._baseline + at[:, None] * along).requires_grad_(True)
        q_values = self._forward(points)  # (2P, A)
        columns = [
            torch.autograd.grad(q_values[:, action].sum(), points, retain_graph=True)[0]
            for action in range(ACTION_DIM)
        ]
        gradients = torch.stack(columns, 1) * along[:, None, :]  # (2P, A, F)
        return gradients[: len(middle)], gradients[len(middle) :]


def _cuts(pieces: _Pieces, early: Tensor, late: Tensor, *, halve: bool) -> Tensor:
    """Where to cut pieces (P,).

    Args:
        pieces: Those to be cut.
        early: Slopes (P, A) of the Q-values along the path in the first half.
        late: The same in the second half.
        halve: In the middle, whatever the slopes say.
    """
    length = pieces.high - pieces.low
    middle = pieces.low + length / 2.0
    if halve:
        return middle
    # The kink shows best in the action whose slope changes most.
    sharpest = (early - late).abs().argmax(1, keepdim=True)
    rise = pieces.q_high - pieces.q_low - late * length[:, None]  # (P, A)
    offset = rise.gather(1, sharpest)[:, 0] / (early - late).gather(1, sharpest)[:, 0]
    inside = (offset > 0.0) & (offset < length)  # false for NaN and infinity, of equal slopes
    at = pieces.low + offset
    return torch.where(inside & (at > pieces.low) & (at < pieces.high), at, middle)
