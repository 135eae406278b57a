"""Who installed less than the pipelines' extra can still train, gate and serve."""

from __future__ import annotations

import subprocess
import sys

from tests.live.processes import ROOT

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pyarrow", "kfp", "optuna", "model_registry", "yaml"}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import nimbusguard.cli, nimbusguard.commands.gate, nimbusguard.commands.train
import training.seeds, training.gating, training.agreement
"""


def test_training_alone_needs_neither_parquet_nor_kubeflow_nor_optuna() -> None:
    """The extra `train` has none of them."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=120, cwd=ROOT,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
