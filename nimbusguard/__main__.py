"""`python -m nimbusguard`: the `nimbusguard` command."""

from __future__ import annotations

import sys

from nimbusguard.cli import main

if __name__ == "__main__":
    sys.exit(main())
