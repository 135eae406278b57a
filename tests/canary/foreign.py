"""The predictor as another release would start it, one that was built for a version's own table.

Run as `python tests/canary/foreign.py DIRECTORY FLAGS…`. Ours refuses such a version when it loads
it; this one serves it, so that what the others do with its answers can be seen.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from model_store.metadata import METADATA_FILE, parse_document
from predictor import loader

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    document = parse_document((directory / METADATA_FILE).read_bytes())
    vars(loader)["FINGERPRINT"] = document["fingerprint"]
    sys.argv = ["predictor", f"--model_dir={directory}", *sys.argv[2:]]
    runpy.run_module("predictor", run_name="__main__", alter_sys=True)
