"""Imports that wait for their first use."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from serving.deferred import defer_unused

defer_unused()
import kserve
import pandas

assert not any(name.startswith(("pandas.core", "kubernetes.client")) for name in sys.modules)
assert not isinstance(object(), pandas.DataFrame)

frame = pandas.DataFrame({"a": [1, 2]})
assert frame.shape == (2, 1)
assert isinstance(frame, sys.modules["pandas"].DataFrame)
assert pandas.concat([frame, frame]).shape == (4, 1)

from kserve.api.kserve_client import KServeClient
try:
    KServeClient(config_file="/nowhere")
except Exception as error:
    assert "kubernetes.client" in sys.modules, error
    print("the real client was asked")
"""


def test_what_is_deferred_is_not_loaded_and_works_once_it_is_used() -> None:
    """The SDK is imported without pandas and the Kubernetes client; both are real when called."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "the real client was asked\n"
