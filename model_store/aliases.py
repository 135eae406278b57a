"""`aliases.json`: names that follow a version. Aliases that this code does not know are kept."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from model_store.names import is_version
from nimbusguard.contract.errors import ArtifactCorrupted


def alias_bytes(aliases: Mapping[str, str]) -> bytes:
    """The content of the file."""
    return orjson.dumps(aliases, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def parse_aliases(content: bytes | None) -> dict[str, str]:
    """Alias to version; empty if there is no file.

    Raises:
        ArtifactCorrupted: It is no JSON object of version numbers as text.
    """
    if content is None:
        return {}
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        message = f"aliases.json: expected JSON, got {error}"
        raise ArtifactCorrupted(message) from error
    if not isinstance(document, dict):
        message = f"aliases.json: expected an object, got {document!r}"
        raise ArtifactCorrupted(message)
    for alias, version in document.items():
        if not isinstance(version, str) or not is_version(version):
            message = f"aliases.json: {alias}: expected a version as text, got {version!r}"
            raise ArtifactCorrupted(message)
    return document
