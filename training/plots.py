"""The plots of a report, each a figure as SVG text; nothing here decides anything."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_NAMES
from training.statistics import FrontierPoint, frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = ("#0b6e4f", "#d1495b", "#30638e", "#edae49", "#6a4c93", "#7f7f7f", "#00798c")
_NAME_LENGTH: Final = 36
_SMOOTHED: Final = 8
"""Intervals that a point of the load is the mean of."""
_STYLE: Final[Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9.0,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",
    "svg.hashsalt": "nimbusguard",
}


def frontiers(families: Mapping[str, Sequence[FrontierPoint]], budget_ratio: float) -> str:
    """Pod-hours against violations: each family's members and frontier; one alone is a star."""
    figure, axes = _figure(7.5, 4.2)
    for colour, (name, points) in zip(_colours(len(families)), families.items(), strict=True):
        shown = [point for point in points if point.violation_ratio > 0]
        best = [point for point in frontier(points) if point.violation_ratio > 0]
        axes.plot(
            [100 * point.violation_ratio for point in best],
            [point.cost for point in best],
            color=colour,
            label=name if len(points) > 1 else None,
        )
        axes.scatter(
            [100 * point.violation_ratio for point in shown],
            [point.cost for point in shown],
            color=colour,
            s=60 if len(points) == 1 else 10,
            marker="*" if len(points) == 1 else "o",
            label=name if len(points) == 1 else None,
        )
    axes.axvline(100 * budget_ratio, color="black", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(0.01, 10)
    lowest = min(point.cost for points in families.values() for point in points)
    axes.set_ylim(0.95 * lowest, 2.2 * lowest)
    axes.set_xlabel("requests that violate, mean over windows [%]")
    axes.set_ylabel("pod-hours, all windows")
    axes.legend(frameon=False)
    return _svg(figure)


def course(
    title: str,
    interval_s: float,
    busy_pods: NDArray[np.float64],
    replicas: Mapping[str, NDArray[np.int64]],
) -> str:
    """Load and replicas over time in one window.

    Args:
        title: The window's name.
        interval_s: Seconds between two entries.
        busy_pods: Pods that the arriving requests keep busy (T,).
        replicas: Replicas of each policy (T,).
    """
    figure, axes = _figure(9.0, 3.2)
    hours = np.arange(len(busy_pods)) * interval_s / 3600.0
    # Means of two minutes, and of the replicas the changes alone: the eye sees no more.
    whole = len(busy_pods) // _SMOOTHED * _SMOOTHED
    load = busy_pods[:whole].reshape(-1, _SMOOTHED).mean(axis=1)
    axes.fill_between(
        hours[:whole:_SMOOTHED], load, color="#cccccc", linewidth=0, label="busy pods"
    )
    for colour, (name, count) in zip(_colours(len(replicas)), replicas.items(), strict=True):
        kept = np.flatnonzero(np.diff(count, prepend=-1))
        kept = np.append(kept, len(count) - 1)
        axes.step(
            hours[kept],
            count[kept],
            where="post",
            color=colour,
            linewidth=0.9,
            label=name[-_NAME_LENGTH:],
        )
    axes.set_title(title, loc="left")
    axes.set_xlabel("hours")
    axes.set_ylabel("pods")
    axes.set_xlim(0, hours[-1] if len(hours) else 1)
    axes.legend(frameon=False, ncols=2, fontsize=7, loc="upper left")
    return _svg(figure)


def action_mix(counts: Mapping[str, NDArray[np.int64]]) -> str:
    """How often each policy took each action."""
    figure, axes = _figure(9.0, 1.6 + 0.5 * len(counts))
    # The end of a name tells more than its beginning: it may hold a path.
    names = [name[-_NAME_LENGTH:] for name in counts]
    left = np.zeros(len(names))
    shares = np.array([count / max(count.sum(), 1) for count in counts.values()])  # (P, A)
    for index, (action, colour) in enumerate(zip(ACTION_NAMES, _ACTIONS, strict=True)):
        axes.barh(names, 100 * shares[:, index], left=left, color=colour, label=action)
        left = left + 100 * shares[:, index]
    axes.set_xlabel("decisions [%]")
    axes.set_xlim(0, 100)
    axes.legend(ncols=3, fontsize=7, framealpha=0.8, loc="lower right")
    return _svg(figure)


_ACTIONS: Final = ("#30638e", "#8fb8de", "#dddddd", "#f2b880", "#d1495b")


def q_curves(
    feature: str, values: NDArray[np.float64], q_values: NDArray[np.float32], title: str
) -> str:
    """Q-values relative to NO_ACTION while one feature moves and the others stay.

    Args:
        feature: Axis label.
        values: The feature's values (T,).
        q_values: Q-values (T, A).
        title: What the others are held at.
    """
    figure, axes = _figure(4.6, 2.8)
    for index, (action, colour) in enumerate(zip(ACTION_NAMES, _ACTIONS, strict=True)):
        axes.plot(
            values,
            q_values[:, index] - q_values[:, 2],
            color="#888888" if index == 2 else colour,
            label=action,
        )
    axes.set_title(title, loc="left", fontsize=8)
    axes.set_xlabel(feature)
    axes.set_ylabel("Q - Q(NO_ACTION)")
    axes.legend(frameon=False, fontsize=6)
    return _svg(figure)


def curves(series: Mapping[str, Sequence[Mapping[str, float]]], column: str, label: str) -> str:
    """One column of the training curves of several seeds."""
    figure, axes = _figure(4.6, 2.6)
    for colour, (name, rows) in zip(_colours(len(series)), series.items(), strict=True):
        axes.plot([row["epoch"] for row in rows], [row[column] for row in rows], color=colour)
        axes.plot([], [], color=colour, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize=7)
    return _svg(figure)


def _colours(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        # Made without pyplot: no window system, no global state, no figure left open.
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]
