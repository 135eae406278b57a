"""Candidates and stores that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_store.metadata import Draft, Network
from model_store.store import Candidate, ModelStore, open_store
from nimbusguard.contract.fingerprint import action_table, feature_table

DraftOf = Callable[..., Draft]
CandidateOf = Callable[..., Candidate]
PASSED = {"gate": {"passed": True}}


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.fixture
def draft_of() -> DraftOf:
    def make(**changes: Any) -> Draft:
        fields: dict[str, Any] = {
            "name": "nimbusguard-dqn",
            "features": tuple(feature_table()),
            "actions": tuple(action_table()),
            "network": Network(layers=(11, 128, 128, 5), weights="sha256:00"),
            "training": {"algorithm": "none", "seed": 0},
            "evaluation": PASSED,
        }
        return Draft(**{**fields, **changes})

    return make


@pytest.fixture
def candidate_of(draft_of: DraftOf) -> CandidateOf:
    def make(seed: int = 0, **changes: Any) -> Candidate:
        rng = np.random.default_rng(seed)
        files = {"model.pt": rng.bytes(3_000), "model.onnx": rng.bytes(2_000)}
        return Candidate(draft=draft_of(**changes), files=files)

    return make


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return open_store(tmp_path / "store")
