"""The gate: each condition alone can close it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.training.test_evaluate import judgement
from training.edges import Edges
from training.evaluate import Judgement
from training.gate import GateSettings, Verdict, decide

RIVAL = judgement([10.0] * 8, [0.003] * 8, "hpa:0.68", turns=4.0)
SOUND = Edges()
GOOD = judgement([8.8] * 8, [0.003] * 8, "dqn", turns=3.0)


def verdict(
    candidate: Judgement = GOOD,
    seeds: list[Judgement] | None = None,
    *,
    parity: bool = True,
    edges: Edges = SOUND,
) -> Verdict:
    return decide(
        GateSettings(),
        candidate,
        RIVAL,
        seeds=[candidate] * 5 if seeds is None else seeds,
        parity=parity,
        edges=edges,
        rng=np.random.default_rng(0),
    )


def failed(found: Verdict) -> set[str]:
    return {each.name for each in found.conditions if not each.passed}


def test_a_candidate_that_is_cheaper_and_no_worse_passes() -> None:
    """Twelve percent fewer pod-hours at the same violations and fewer turns."""
    found = verdict()

    assert found.passed
    assert found.cost_ratio.estimate == pytest.approx(0.88)


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        ({"candidate": judgement([8.8] * 8, [0.006] * 8, turns=3.0)}, "mean violation ratio"),
        ({"candidate": judgement([9.6] * 8, [0.003] * 8, turns=3.0)}, "pod-hours over the rival's"),
        (
            {"candidate": judgement([8.8] * 7 + [20.0], [0.003] * 8, turns=3.0)},
            "upper end of its 95 % interval",
        ),
        (
            {"candidate": judgement([8.8] * 8, [0.0] * 7 + [0.011], turns=3.0)},
            "worst window over the rival's",
        ),
        ({"candidate": judgement([8.8] * 8, [0.003] * 8, turns=4.0)}, "direction changes an hour"),
        ({"seeds": [GOOD] * 4}, "training seeds judged"),
        (
            {"seeds": [GOOD] * 4 + [judgement([14.0] * 8, [0.003] * 8)]},
            "pod-hours over the rival's, over seeds",
        ),
        (
            {"seeds": [GOOD] * 4 + [judgement([8.8] * 8, [0.02] * 8)]},
            "mean violation ratio over seeds",
        ),
        ({"parity": False}, "export parity"),
        ({"edges": Edges(idle_additions_ratio=0.001)}, "additions to an idle workload"),
        ({"edges": Edges(saturated_neglect_ratio=0.001)}, "saturated workloads left alone"),
        (
            {"edges": Edges(spare_kept_ratio=0.051)},
            "spare pods of nearly idle workloads kept",
        ),
    ],
)
def test_each_condition_alone_closes_the_gate(change: dict[str, Any], condition: str) -> None:
    """Whatever else is fine."""
    found = verdict(**change)

    assert not found.passed
    assert condition in failed(found)


def test_the_verdict_says_every_figure() -> None:
    """What goes into the metadata can be read without the code."""
    document = verdict().to_json()

    assert document["passed"] is True
    assert document["rival"] == "hpa:0.68"
    assert len(document["conditions"]) == 12
    assert document["seed_cost_ratios"] == pytest.approx([0.88] * 5)
