"""The programs that Debian has and PyPI has not: `prometheus` and `promtool`."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """The path of a program of Debian's package `prometheus`.

    Without it the test is skipped; where `CI` is set it fails, because a check that never ran must
    not look passed.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    message = f"`{name}` is not on PATH: install it with `apt-get install prometheus`"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
