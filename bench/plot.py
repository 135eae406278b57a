"""The plot of `bench/results.md`: latency over load, ours against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.payloads import Form
from bench.records import Cell, Table
from bench.systems import Side, System
from bench.targets import p50, p99, rate

_COLOURS: Final = {
    System.REFERENCE_REST: "#b2182b",
    System.REFERENCE_GRPC: "#ef8a62",
    System.OURS_REST: "#2166ac",
    System.OURS_GRPC: "#67a9cf",
}


def curve(table: Table, system: System) -> list[Cell]:
    """The single named rows of a pair at rising load."""
    cells = [
        cell
        for cell in table.cells
        if cell.system is system
        and cell.workload.side is Side.PAIR
        and cell.workload.form is Form.NAMED
        and cell.workload.rows == 1
    ]
    return sorted(cells, key=lambda cell: cell.workload.connections)


def draw(table: Table, path: Path) -> None:
    """Write the plot as SVG: the same records give the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "nimbusguard", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        for system, colour in _COLOURS.items():
            cells = curve(table, system)
            if not cells:
                continue
            rates = [cell.median(rate) for cell in cells]
            axes.plot(rates, [c.median(p50) for c in cells], "o-", color=colour, label=system.value)
            axes.plot(rates, [c.median(p99) for c in cells], "o:", color=colour)
            for cell, x in zip(cells, rates, strict=True):
                axes.annotate(
                    str(cell.workload.connections),
                    (x, cell.median(p50)),
                    textcoords="offset points",
                    xytext=(5, -10),
                    fontsize=8,
                    color=colour,
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("answers per second")
        axes.set_ylabel("latency, ms (solid p50, dotted p99)")
        axes.set_title("One named row through the pair; numbers are connections")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
