"""The report: one file, complete, and equal to its JSON."""

from __future__ import annotations

import re

import numpy as np

from nimbusguard.policy.guard import GuardSettings
from tests.training.test_evaluate import COURT, judgement
from training import gate, plots
from training.edges import Edges
from training.evaluate import judge
from training.gate import GateSettings
from training.lineup import FAMILIES, policy_named
from training.objective import DEFAULT_OBJECTIVE
from training.policies import ActionPolicy, network_decisions
from training.report import page, policy_rows
from training.showing import action_plot, courses, frontier_plot, q_plots
from training.statistics import FrontierPoint
from training.verdict import document_of


def flat(state: np.ndarray) -> np.ndarray:
    return np.tile(np.array([1, 2, 3, 2, 1], dtype=np.float32), (len(state), 1))


def document() -> dict[str, object]:
    decide = network_decisions(flat, DEFAULT_OBJECTIVE)
    policy = ActionPolicy("ours <raw>", decide, DEFAULT_OBJECTIVE)
    families = {"hpa": FAMILIES["hpa"].judge(COURT)}
    return document_of("A title", COURT, "fast", [judge(policy, COURT)], families, [])


def test_a_page_needs_nothing_beside_it_and_escapes_what_it_shows() -> None:
    """No link, script, image or style from elsewhere; names are text."""
    made = page(document(), {"Plots": ["<svg></svg>"]})

    assert not re.search(r"(src|href)=", made)
    assert "<script" not in made
    assert "ours &lt;raw&gt;" in made
    assert made.startswith("<!doctype html>")


def test_the_table_shows_ours_first_and_the_best_of_each_family() -> None:
    """Ours, then the HPA at its best target, whose cost ratio to itself is one."""
    rows = policy_rows(document())

    assert rows[0][0] == "ours <raw>"
    assert rows[1][0].startswith("hpa:")
    assert rows[1][4] == "1.000"


def test_a_gate_is_shown_with_every_condition() -> None:
    """Who reads the report sees which condition closed the gate."""
    found = gate.decide(
        GateSettings(),
        judgement([9.0, 9.0], [0.02, 0.0]),
        judgement([10.0, 10.0], [0.0, 0.0]),
        seeds=[judgement([9.0, 9.0], [0.02, 0.0])],
        parity=True,
        edges=Edges(),
        rng=np.random.default_rng(0),
    )

    made = page({**document(), "gate": found.to_json()}, {})

    assert "Gate: not passed" in made
    assert all(condition.name.split()[0] in made for condition in found.conditions)


def test_every_plot_is_an_svg_without_metadata_of_the_machine() -> None:
    """Frontier, courses, action mix, Q-curves: drawn from a real evaluation."""
    hpa = {"hpa": FAMILIES["hpa"].judge(COURT)}
    ours = ActionPolicy(
        "ours", network_decisions(flat, DEFAULT_OBJECTIVE), DEFAULT_OBJECTIVE, q_function=flat
    )
    judge(ours, COURT)
    static = policy_named("static:14", DEFAULT_OBJECTIVE, GuardSettings())

    figures = [
        frontier_plot(hpa, DEFAULT_OBJECTIVE),
        *courses(COURT, [ours, static], hpa, 1),
        action_plot([ours, static]) or "",
        *q_plots([static, ours]),
        plots.curves({"seed 1": [{"epoch": 0.0, "td_loss": 1.0}]}, "td_loss", "loss"),
    ]

    assert len(figures) == 1 + 2 + 1 + 3 + 1
    assert all(figure.startswith("<svg") for figure in figures)
    assert not any("<dc:date>" in figure for figure in figures)


def test_equal_figures_are_drawn_equally() -> None:
    """A report made twice from equal numbers is byte for byte the same."""
    points = {"hpa": [FrontierPoint(0.001, 10.0, "a"), FrontierPoint(0.01, 8.0, "b")]}

    assert plots.frontiers(points, 0.005) == plots.frontiers(points, 0.005)
