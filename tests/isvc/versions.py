"""Model versions for deployment tests, published by the store itself.

1 is the packaged version 1; 2 and 3 are the same network under other numbers; 4 always says
SCALE_UP_2; 5 was trained with another feature table.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from model_store.metadata import Draft
from model_store.packaged import packaged_path
from model_store.store import Candidate, ModelStore, open_store
from nimbusguard.contract.actions import ACTION_DIM, ScaleAction
from training.export import check_files, export_files
from training.network import NetworkConfig, QNetwork

NAME = "nimbusguard-dqn"
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def publish_versions(directory: Path) -> Path:
    """The root of a store that holds all five."""
    root = directory / "models"
    shutil.copytree(packaged_path() / NAME / "1", root / NAME / "1")
    store = open_store(root)
    store.promote(NAME, "production", "1")
    draft = Draft.from_json(store.show(NAME, "1").to_json())
    again = Candidate.from_directory(root / NAME / "1", draft)
    _publish(store, again, "2")
    _publish(store, again, "3")
    _publish(store, replace(again, files=_always_up()), "4")
    table = [dict(row) for row in draft.features]
    table[2]["max"] *= 10
    _publish(store, replace(again, draft=replace(draft, features=tuple(table))), "5")
    return root


def _publish(store: ModelStore, candidate: Candidate, version: str) -> None:
    store.publish(
        candidate, check_files, now=WHEN, version=version, force_reason="a test of deployment"
    )


def _always_up() -> dict[str, bytes]:
    """A network that ignores its state and likes SCALE_UP_2 best."""
    network = QNetwork(NetworkConfig(), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        best = torch.zeros(ACTION_DIM)
        best[ScaleAction.SCALE_UP_2] = 1.0
        head = network.advantage if network.config.dueling else network.head
        head.bias.copy_(best)
    files, _ = export_files(network)
    return files
