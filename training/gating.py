"""A finished run before the gate: its seeds judged as they will run, and the HPA to be beaten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from nimbusguard.policy.guard import GuardSettings
from training import checkpoint
from training.calibrate import judge_multipliers
from training.edges import Edges
from training.evaluate import Court, Judgement, best_within
from training.gate import GateSettings, Verdict, decide
from training.lineup import FAMILIES
from training.seeds import read_calibration, seed_directory
from training.verdict import RIVAL_FAMILY

_BOOTSTRAP_SEED: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the court found."""

    seeds: Mapping[int, Judgement]
    """Each training seed's network at its own price, inside the guard."""
    rival: Judgement
    """The HPA at its best target over these windows."""
    court_seeds: tuple[int, ...]

    def to_record(self) -> dict[str, Any]:
        """All of it, for another process."""
        return {
            "seeds": {str(seed): each.to_record() for seed, each in self.seeds.items()},
            "rival": self.rival.to_record(),
            "court_seeds": list(self.court_seeds),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Judged:
        """What `to_record` gave."""
        return cls(
            seeds={
                int(seed): Judgement.from_record(each) for seed, each in record["seeds"].items()
            },
            rival=Judgement.from_record(record["rival"]),
            court_seeds=tuple(record["court_seeds"]),
        )


def judge_run(directory: Path, plan: Mapping[str, Any], court: Court) -> Judged:
    """Judge every seed of a run directory, and the rival."""
    rails = GuardSettings(**plan["lanes"]["guard"])
    budget = court.objective.violation_budget_ratio
    return Judged(
        seeds={seed: _judge(directory, seed, rails, court) for seed in plan["seeds"]},
        rival=best_within(FAMILIES[RIVAL_FAMILY].judge(court), budget),
        court_seeds=tuple(court.seeds),
    )


def hold_gate(
    limits: GateSettings, judged: Judged, chosen: int, *, parity: bool, edges: Edges
) -> Verdict:
    """The gate's answer on the chosen seed; equal figures give an equal answer."""
    return decide(
        limits,
        judged.seeds[chosen],
        judged.rival,
        seeds=list(judged.seeds.values()),
        parity=parity,
        edges=edges,
        rng=np.random.default_rng(_BOOTSTRAP_SEED),
    )


def record_of(
    verdict: Verdict, judged: Judged, chosen: int, plan: Mapping[str, Any]
) -> dict[str, Any]:
    """What stands in `gate.json`, and in a version's metadata under `evaluation`."""
    return {
        "gate": verdict.to_json(),
        "against": judged.rival.to_json(),
        "candidate": judged.seeds[chosen].to_json(),
        "windows": list(judged.rival.windows),
        "seeds": list(judged.court_seeds),
        "guard": plan["lanes"]["guard"],
    }


def _judge(directory: Path, seed: int, rails: GuardSettings, court: Court) -> Judgement:
    network, _ = checkpoint.read_network(seed_directory(directory, seed) / "network.npz")
    multiplier = float(read_calibration(directory, seed)["multiplier"])
    return judge_multipliers(network, [multiplier], court, rails=rails, label=f"seed-{seed}")[0]
