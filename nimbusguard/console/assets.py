"""The page's files, out of the package, and the headers that keep it to itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

ROOT: Final = "/console/"
API: Final = "/console/api/"
HEADERS: Final[Mapping[str, str]] = {
    # Nothing from elsewhere, no inline script or style, in nobody's frame.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """One file."""

    content_type: str
    body: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """Every file by its path under `/console/`; the page itself under the empty one too."""
    folder = files("nimbusguard.console") / "static"
    found = {
        entry.name: Asset(_TYPES[entry.name.rpartition(".")[2]], entry.read_bytes())
        for entry in folder.iterdir()
        if entry.is_file()
    }
    return {**found, "": found["index.html"]}
