"""The network that a run would publish: exported, described, and offered to the model store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from model_store.metadata import Draft, Metadata, Network
from model_store.store import Candidate, ModelStore
from nimbusguard.contract.fingerprint import action_table, feature_table
from training import checkpoint
from training.calibrate import freeze
from training.dueling_network import q_values_of
from training.export import check_files, export_files, weights_digest
from training.parity import ParityReport
from training.provenance import git_commit, library_versions
from training.seeds import CANDIDATE_FILE, read_calibration, seed_directory
from training.served import Q_SCALE, ServedNetwork

MODEL_NAME: Final = "nimbusguard-dqn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A seed's network at its multiplier, as files."""

    seed: int
    multiplier: float
    network: ServedNetwork
    files: Mapping[str, bytes]
    parity: ParityReport

    def q_function(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Q-values (B, A) of states (B, F)."""
        values: NDArray[np.float32] = q_values_of(self.network, state)
        return values


def export_seed(directory: Path, seed: int) -> Exported:
    """Freeze a seed's network at the multiplier of its calibration and export it."""
    network, _ = checkpoint.read_network(seed_directory(directory, seed) / "network.npz")
    multiplier = float(read_calibration(directory, seed)["multiplier"])
    served = ServedNetwork(freeze(network, multiplier), scale=Q_SCALE)
    files, parity = export_files(served)
    return Exported(seed=seed, multiplier=multiplier, network=served, files=files, parity=parity)


def write_files(exported: Exported, directory: Path) -> None:
    """Leave the files in a folder, where `version:DIRECTORY` finds them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in exported.files.items():
        (directory / name).write_bytes(content)


def candidate_seed(directory: Path) -> int:
    """The seed that the calibration chose."""
    document = orjson.loads((directory / CANDIDATE_FILE).read_bytes())
    return int(document["seed"])


def publish(
    store: ModelStore,
    exported: Exported,
    *,
    plan: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    now: datetime,
    force_reason: str | None,
) -> Metadata:
    """Publish a network with its gate; the store refuses one that did not pass, unless forced.

    Raises:
        InvalidRequest: The gate did not pass it and nobody gave a reason.
    """
    draft = Draft(
        name=MODEL_NAME,
        features=tuple(feature_table()),
        actions=tuple(action_table()),
        network=Network(
            layers=exported.network.layers,
            weights=weights_digest(exported.network),
            extra={"activation": "relu", "derived_inputs": exported.network.network.derived},
        ),
        training={
            "algorithm": "double dueling n-step DQN with branching, under a violation budget",
            "learned_from_traffic": True,
            "seed": exported.seed,
            "multiplier": exported.multiplier,
            "config": dict(plan),
            "git_commit": plan.get("git_commit") or git_commit(Path(__file__).parent),
            "data": "real request traces up to the validation periods, and generated traffic",
            "command": "make train",
            "libraries": library_versions("torch", "numpy", "onnx", "onnxscript"),
        },
        evaluation={**evaluation, "parity": exported.parity.to_json()},
    )
    candidate = Candidate(draft=draft, files=exported.files)
    return store.publish(candidate, check_files, now=now, force_reason=force_reason)
