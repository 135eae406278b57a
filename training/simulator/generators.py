"""Made-up traffic for training: shapes that the few real traces show too seldom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.simulator.workload import Workload, scaled_to_peak

_STEP_S: Final = 10.0
Shape = Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]


def _diurnal(time_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    period_s = rng.uniform(2.0, 24.0) * 3600.0
    depth = rng.uniform(0.2, 0.9)
    phase = rng.uniform(0.0, 2.0 * np.pi)
    wave: NDArray[np.float64] = 1.0 + depth * np.sin(2.0 * np.pi * time_s / period_s + phase)
    second: NDArray[np.float64] = wave + 0.2 * np.sin(4.0 * np.pi * time_s / period_s)
    return second


def _steps(time_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    changes = np.sort(rng.uniform(0.0, time_s[-1], rng.integers(1, 8)))
    levels = rng.uniform(0.1, 1.0, len(changes) + 1)
    return np.asarray(levels[np.searchsorted(changes, time_s)], dtype=np.float64)


def _ramps(time_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    knots = np.sort(rng.uniform(0.0, time_s[-1], rng.integers(2, 10)))
    return np.interp(time_s, knots, rng.uniform(0.05, 1.0, len(knots)))


def _flash_crowd(time_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    load = np.full(time_s.shape, rng.uniform(0.1, 0.5))
    for _ in range(int(rng.integers(1, 4))):
        start = rng.uniform(0.0, time_s[-1])
        rise_s, fall_s = rng.uniform(20.0, 600.0), rng.uniform(120.0, 3600.0)
        since = time_s - start
        rising = np.clip(since / rise_s, 0.0, 1.0)
        falling = np.exp(-np.maximum(since - rise_s, 0.0) / fall_s)
        load = load + rng.uniform(0.2, 1.0) * rising * falling
    return load


def _constant(time_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.full(time_s.shape, rng.uniform(0.1, 1.0))


SHAPES: Final[dict[str, Shape]] = {
    "diurnal": _diurnal,
    "steps": _steps,
    "ramps": _ramps,
    "flash_crowd": _flash_crowd,
    "constant": _constant,
}
"""Name of a generator to its function of time."""


def _noise(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Multiplicative noise that forgets over minutes; real services vary more than Poisson."""
    deviation = rng.uniform(0.0, 0.25)
    memory = np.exp(-_STEP_S / rng.uniform(20.0, 600.0))
    shocks = rng.standard_normal(length) * np.sqrt(1.0 - memory**2)
    level = np.empty(length)
    last = rng.standard_normal()
    for index, shock in enumerate(shocks.tolist()):
        last = memory * last + shock
        level[index] = last
    noise: NDArray[np.float64] = np.exp(deviation * level - 0.5 * deviation**2)
    return noise


def generate(shape: str, duration_s: float, rng: np.random.Generator) -> Workload:
    """A workload of a named shape with random parameters and noise.

    Args:
        shape: A key of `SHAPES`.
        duration_s: Its length.
        rng: The source of its parameters.
    """
    bins = np.arange(int(np.ceil(duration_s / _STEP_S)), dtype=np.float64)
    time_s: NDArray[np.float64] = (bins + 0.5) * _STEP_S
    load = SHAPES[shape](time_s, rng) * _noise(len(time_s), rng)
    return scaled_to_peak(shape, "generated", _STEP_S, np.maximum(load, 0.0))
