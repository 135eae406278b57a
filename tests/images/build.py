"""`make images`: both images into podman's storage, by the recipe that the tests use."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.images.toolchain import base_image, build, ensure_tools, pip_mounts


def main() -> int:
    """Build, and say how large each image became."""
    ensure_tools()
    with tempfile.TemporaryDirectory() as folder:
        base = base_image(Path(folder))
        mounts = pip_mounts(Path(folder))
        for name in ("transformer", "predictor"):
            built = build(name, base, mounts)
            megabytes = built.bytes_over_base / 1e6
            sys.stdout.write(
                f"{built.reference}  {megabytes:.0f} MB over {base}, {built.seconds:.0f} s\n"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
