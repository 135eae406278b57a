"""The package's face: its public names, and what importing it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nimbusguard.client


def test_every_public_name_can_be_had() -> None:
    """`__all__` and the table of homes agree."""
    for name in nimbusguard.client.__all__:
        assert getattr(nimbusguard.client, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        nimbusguard.client.Nothing  # noqa: B018 - the access is the test


def test_importing_the_package_loads_no_http_library() -> None:
    """Who needs only one part of the package does not pay for the rest."""
    code = "import sys, nimbusguard.client; sys.exit('httpx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
