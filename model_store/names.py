"""What a model, a version, an alias and a file may be called; no name ever leaves its folder."""

from __future__ import annotations

import re
from typing import Final

from nimbusguard.contract.errors import InvalidRequest

MODEL_NAME: Final = "nimbusguard-dqn"
"""The model of this project."""
ALIASES: Final[tuple[str, ...]] = ("production", "canary")
"""Names that may point to a version, in the order of who depends on them."""
LATEST: Final = "latest"
"""A reference to the highest published version; never an alias."""
MAX_VERSION: Final = 999_999_999
_MODEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_version(text: str) -> bool:
    """Whether `text` is a positive integer as it is written, without sign or leading zero."""
    return _VERSION.fullmatch(text) is not None


def is_file_name(text: str) -> bool:
    """Whether `text` is a plain file name: no folder, no leading dot."""
    return _FILE.fullmatch(text) is not None


def is_model(text: str) -> bool:
    """Whether `text` is a DNS-1123 label."""
    return _MODEL.fullmatch(text) is not None


def require_model(name: str) -> str:
    """The name itself, if it is a DNS-1123 label.

    Raises:
        InvalidRequest: It is not.
    """
    if not is_model(name):
        message = f"model name: expected lower-case letters, digits and inner hyphens, got {name!r}"
        raise InvalidRequest(message)
    return name


def require_version(version: str) -> str:
    """The version itself, if it is a positive integer as text.

    Raises:
        InvalidRequest: It is not.
    """
    if not is_version(version):
        message = f"version: expected a positive integer up to {MAX_VERSION}, got {version!r}"
        raise InvalidRequest(message)
    return version


def require_alias(alias: str) -> str:
    """The alias itself, if it is a known one.

    Raises:
        InvalidRequest: It is not.
    """
    if alias not in ALIASES:
        message = f"alias: expected one of {', '.join(ALIASES)}, got {alias!r}"
        raise InvalidRequest(message)
    return alias
