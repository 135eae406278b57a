"""`make images`: the images into podman's storage, by the recipe that the tests use."""

from __future__ import annotations

import sys

from tests.images.toolchain import build_all


def main() -> int:
    """Build, and say how large each image became."""
    for built in build_all().values():
        megabytes = built.bytes_over_base / 1e6
        sys.stdout.write(f"{built.reference}  {megabytes:.0f} MB over its base, ")
        sys.stdout.write(f"{built.seconds:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
