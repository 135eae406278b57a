"""Raw values to the state that the network sees, and back: pure functions of the feature table.

Absence is resolved first (`impute`), then values are clipped and scaled (`normalize`). NaN stands
for absent, and for nothing else.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nimbusguard.contract.features import (
    FEATURES,
    INDEX,
    MAXIMUM,
    MINIMUM,
    NAMES,
    REQUEST_RATE,
    STATE_DIM,
    Absence,
)

_SPAN: Final = MAXIMUM - MINIMUM
_ZERO: Final = np.array([feature.absence is Absence.ZERO for feature in FEATURES])
_WITHOUT_TRAFFIC: Final = np.array(
    [feature.absence is Absence.ZERO_WITHOUT_TRAFFIC for feature in FEATURES]
)


class Imputed(NamedTuple):
    """Raw features with absence resolved."""

    values: NDArray[np.float64]
    """(B, F); NaN only where `refused`."""
    imputed: NDArray[np.bool_]
    """(B, F); where absence was read as 0."""
    refused: NDArray[np.bool_]
    """(B, F); where absence may not be read as 0, or the value is -Inf."""


class Normalized(NamedTuple):
    """A state and what was done to get it."""

    state: NDArray[np.float32]
    """(B, F) in [0, 1]."""
    clipped: NDArray[np.bool_]
    """(B, F); where a value lay outside its bounds."""


def absent_as_zero_mask(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """The features for which an operator declared that absence always means 0.

    Args:
        names: Feature names, as listed in `ABSENT_AS_ZERO`.

    Returns:
        A mask (F,).

    Raises:
        KeyError: A name is no feature.
    """
    mask = np.zeros(STATE_DIM, dtype=np.bool_)
    for name in names:
        mask[INDEX[name]] = True
    return mask


NO_FEATURES: Final = absent_as_zero_mask(())


def impute(raw: NDArray[np.float64], absent_as_zero: NDArray[np.bool_] = NO_FEATURES) -> Imputed:
    """Resolve absent values by the table's rule.

    Args:
        raw: Raw features (B, F); NaN means absent.
        absent_as_zero: Mask (F,) of features whose absence the operator declared to mean 0.

    Returns:
        The values, and masks of what was read as 0 and of what must be refused.
    """
    absent = np.isnan(raw)  # (B, F)
    refused = np.isneginf(raw)
    if not absent.any():
        return Imputed(raw, absent, refused)
    idle = (raw[:, REQUEST_RATE] == 0.0)[:, None]  # (B, 1)
    as_zero = absent & (_ZERO | absent_as_zero | (_WITHOUT_TRAFFIC & idle))
    return Imputed(np.where(as_zero, 0.0, raw), as_zero, refused | (absent & ~as_zero))


def normalize(values: NDArray[np.float64]) -> Normalized:
    """Clip to the table's bounds and scale to [0, 1].

    Args:
        values: Raw features (B, F) without NaN; +Inf clips to the maximum.

    Returns:
        The state (B, F) and a mask of what was clipped.
    """
    bounded = np.clip(values, MINIMUM, MAXIMUM)
    state = ((bounded - MINIMUM) / _SPAN).astype(np.float32)
    return Normalized(state, bounded != values)


def denormalize(state: NDArray[np.float32]) -> NDArray[np.float64]:
    """Raw values (B, F) of a state (B, F); the inverse of `normalize` inside the bounds."""
    values: NDArray[np.float64] = state.astype(np.float64) * _SPAN + MINIMUM
    return values


def names_of(mask: NDArray[np.bool_]) -> list[str]:
    """The feature names where a mask (F,) is set, in table order."""
    return [NAMES[index] for index in np.flatnonzero(mask)]
