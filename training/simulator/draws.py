"""Random numbers that depend on a lane's seed and a counter, and on nothing else.

A generator's stream depends on how often it was asked. Here each number is a hash of seed, counter
and purpose, so a lane behaves the same whichever lanes run beside it, whatever its policy does.

Source: splitmix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_PURPOSE: Final = 0xD1342543DE82EF95
_MASK: Final = 0xFFFFFFFFFFFFFFFF
_TO_UNIT: Final = 2.0**-53


class Purpose(IntEnum):
    """What a number is for; two purposes never share one."""

    PARAMETER = 1
    CHANCE = 2
    STARTUP = 3
    SPEED = 4
    SCRAPE_JITTER = 5
    SCRAPE_DROP = 6
    NEIGHBOURS = 7
    VICTIM = 8
    HOUSEKEEPING = 9


def hashed(
    seed: NDArray[np.uint64], counter: NDArray[np.uint64] | int, purpose: Purpose
) -> NDArray[np.uint64]:
    """64 random bits for each seed; `counter` broadcasts against `seed`."""
    # Arrays wrap around without a word; a scalar that overflowed would warn.
    count = np.atleast_1d(np.asarray(counter, dtype=np.uint64))
    salt = np.uint64((_PURPOSE * int(purpose)) & _MASK)
    x = seed + salt + count * _GAMMA
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    bits: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return bits


def uniform(
    seed: NDArray[np.uint64], counter: NDArray[np.uint64] | int, purpose: Purpose
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one for each seed and counter."""
    bits = hashed(seed, counter, purpose) >> np.uint64(11)
    return np.asarray(bits, dtype=np.float64) * _TO_UNIT


def triangular(
    seed: NDArray[np.uint64], counter: NDArray[np.uint64] | int, purpose: Purpose
) -> NDArray[np.float64]:
    """Symmetric bounded noise: mean 0, standard deviation 1, within ±2.45."""
    bits = hashed(seed, counter, purpose)
    low = (bits & np.uint64(0xFFFFFFFF)) * 2.0**-32
    high = (bits >> np.uint64(32)) * 2.0**-32
    noise: NDArray[np.float64] = (low + high - 1.0) * np.sqrt(6.0)
    return noise
