"""Reading JSON field by field: an error names the field, what was expected and what came."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Never

from nimbusguard.contract.errors import ArtifactCorrupted

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SHOWN: Final = 60


def refuse(field: str, expected: str, got: object) -> Never:
    """Raise the error for one field.

    Raises:
        ArtifactCorrupted: Always.
    """
    text = repr(got)
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    message = f"metadata.json: {field}: expected {expected}, got {shown}"
    raise ArtifactCorrupted(message)


def member(parent: Mapping[str, Any], key: str, field: str) -> Any:
    """The value of `key`, which must be there."""
    if key not in parent:
        refuse(field, "a value", None)
    return parent[key]


def text(parent: Mapping[str, Any], key: str, field: str) -> str:
    """A string that is not empty."""
    value = member(parent, key, field)
    if not isinstance(value, str) or not value:
        refuse(field, "a string that is not empty", value)
    return value


def integer(parent: Mapping[str, Any], key: str, field: str, *, minimum: int) -> int:
    """An integer of at least `minimum`; a boolean is none."""
    value = member(parent, key, field)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        refuse(field, f"an integer of at least {minimum}", value)
    return value


def number(parent: Mapping[str, Any], key: str, field: str) -> float:
    """A finite number; a boolean is none."""
    value = member(parent, key, field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        refuse(field, "a finite number", value)
    return float(value)


def digest(parent: Mapping[str, Any], key: str, field: str) -> str:
    """A SHA-256 as 64 hexadecimal digits in lower case."""
    value = member(parent, key, field)
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        refuse(field, "a SHA-256 of 64 hexadecimal digits", value)
    return value


def mapping(parent: Mapping[str, Any], key: str, field: str) -> Mapping[str, Any]:
    """A JSON object."""
    value = member(parent, key, field)
    if not isinstance(value, Mapping):
        refuse(field, "an object", value)
    return value


def rows(parent: Mapping[str, Any], key: str, field: str) -> tuple[Mapping[str, Any], ...]:
    """A list of JSON objects with at least one of them."""
    value = member(parent, key, field)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        refuse(field, "a list that is not empty", value)
    for index, row in enumerate(value):
        if not isinstance(row, Mapping):
            refuse(f"{field}[{index}]", "an object", row)
    return tuple(value)


def widths(parent: Mapping[str, Any], key: str, field: str) -> tuple[int, ...]:
    """A list of positive integers."""
    value = member(parent, key, field)
    if not isinstance(value, list) or not all(type(width) is int and width > 0 for width in value):
        refuse(field, "a list of positive integers", value)
    return tuple(value)


def moment(parent: Mapping[str, Any], key: str, field: str) -> datetime:
    """A time with its zone, in RFC 3339."""
    value = text(parent, key, field)
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        refuse(field, "a time in RFC 3339", value)
    if parsed.tzinfo is None:
        refuse(field, "a time with its zone", value)
    return parsed.astimezone(UTC)


def require_further(extra: Mapping[str, Any], known: Collection[str], field: str) -> None:
    """Refuse further keys that shadow a known one, or that JSON cannot hold."""
    for key in extra:
        if key in known:
            refuse(f"{field}.{key}", "further keys only", extra[key])
    require_json(extra, field)


def require_json(value: object, field: str) -> None:
    """Refuse what JSON cannot hold, NaN and infinity included, and name where it is."""
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            refuse(field, "a finite number", value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                refuse(field, "names that are strings", key)
            require_json(inner, f"{field}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            require_json(inner, f"{field}[{index}]")
    else:
        refuse(field, "a JSON value", value)
