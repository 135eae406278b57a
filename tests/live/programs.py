"""The programs that Debian has and PyPI has not: `prometheus`, `promtool` and `haproxy`."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """The path of a program of Debian's packages `prometheus` and `haproxy`.

    Without it the test is skipped; where `CI` is set it fails, because a check that never ran must
    not look passed.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    package = {"promtool": "prometheus"}.get(name, name)
    message = f"`{name}` is not on PATH: install it with `apt-get install {package}`"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
