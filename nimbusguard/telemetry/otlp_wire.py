"""Spans in OTLP's binary form, written by hand.

Through the library's messages a span takes 5 µs, here 2.5 µs, and while the exporter writes those
of a second, the event loop waits. What a process says once (resource, scope) is left to the library
(`otlp.py`), and tests read all of this with it.

Source: Protocol Buffers, "Encoding"; `opentelemetry/proto/trace/v1/trace.proto` of OTLP 1.x.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from nimbusguard.telemetry.spans import Kind, Value

_KINDS: Final = {Kind.INTERNAL: 1, Kind.SERVER: 2, Kind.CLIENT: 3}
_CODE_ERROR: Final = b"\x18\x02"
"""Field `code` of a status: STATUS_CODE_ERROR."""
_TIMES: Final = Struct("<BQBQ")
_DOUBLE: Final = Struct("<Bd")
_START, _END, _DOUBLE_VALUE = 0x39, 0x41, 0x21
"""Tags of fields of eight bytes; those of all others stand where they are written."""
_SMALL: Final = tuple(bytes((value,)) for value in range(0x80))
_MAX_INT: Final = 2**64


class SpanIds(NamedTuple):
    """Where a span stands."""

    trace: bytes
    """16 bytes."""
    parent: bytes
    """8 bytes; none of a span without another above it."""
    own: bytes
    """8 bytes."""


def link_field(trace: bytes, span: bytes) -> bytes:
    """One field `links` of a span: the ids of another."""
    return b"\x6a\x1c\x0a\x10%b\x12\x08%b" % (trace, span)


def span_field(
    ids: SpanIds,
    named: tuple[str, Kind],
    times_ns: tuple[int, int],
    *,
    tracestate: bytes | None,
    attributes: Mapping[str, Value],
    links: Iterable[bytes],
    error: str | None,
) -> bytes:
    """One field `spans` of `ScopeSpans`.

    Args:
        ids: Its own, its parent's, its trace's.
        named: Name and kind.
        times_ns: Start and end in nanoseconds since 1970.
        tracestate: As it came.
        attributes: What is known of it.
        links: Each as `link_field` writes it.
        error: Why it failed; None if it did not.
    """
    start, end = times_ns
    parts = [
        b"\x0a\x10%b\x12\x08%b" % (ids.trace, ids.own),
        b"\x22\x08" + ids.parent if ids.parent else b"",
        _named(*named),
        _TIMES.pack(_START, start, _END, end),
        *[_attribute(name, value) for name, value in attributes.items()],
        *links,
    ]
    if tracestate is not None:
        parts.append(_field(b"\x1a", tracestate))
    if error is not None:
        parts.append(_field(b"\x7a", _field(b"\x12", _utf8(error)) + _CODE_ERROR))
    return _field(b"\x12", b"".join(parts))


def request_of(spans: Iterable[bytes], resource: bytes, scope: bytes) -> bytes:
    """One `ExportTraceServiceRequest`.

    Args:
        spans: Each as `span_field` writes it.
        resource: A serialized `Resource`.
        scope: A serialized `InstrumentationScope`.
    """
    scoped = b"".join((_field(b"\x0a", scope), *spans))
    return _field(b"\x0a", _field(b"\x0a", resource) + _field(b"\x12", scoped))


@lru_cache(maxsize=128)
def _named(name: str, kind: Kind) -> bytes:
    """Name and kind; there are a dozen of them."""
    return _field(b"\x2a", _utf8(name)) + b"\x30" + _SMALL[_KINDS[kind]]


def _attribute(name: str, value: Value) -> bytes:
    if not isinstance(value, str):
        return _number(name, value)
    key, text = _key(name), _utf8(value)
    size = len(text)
    if len(key) + size + 4 < len(_SMALL):  # one length of one byte within another, all at once
        return b"\x4a%c%b\x12%c\x0a%c%b" % (len(key) + size + 4, key, size + 2, size, text)
    return _field(b"\x4a", key + _field(b"\x12", _field(b"\x0a", text)))


@lru_cache(maxsize=512, typed=True)
def _number(name: str, value: float | bool) -> bytes:
    """An attribute that is no text; mostly one of a few statuses and numbers of rows."""
    if isinstance(value, bool):
        any_value = b"\x10\x01" if value else b"\x10\x00"
    elif isinstance(value, int):
        any_value = b"\x18" + _varint(value % _MAX_INT)
    else:
        any_value = _DOUBLE.pack(_DOUBLE_VALUE, value)
    return _field(b"\x4a", _key(name) + _field(b"\x12", any_value))


@lru_cache(maxsize=128)
def _key(name: str) -> bytes:
    return _field(b"\x0a", _utf8(name))


def _utf8(text: str) -> bytes:
    """A surrogate of an undecodable byte, as messages of errors may have it, becomes `?`."""
    return text.encode("utf-8", "replace")


def _field(tag: bytes, content: bytes) -> bytes:
    return b"%b%b%b" % (tag, _varint(len(content)), content)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the eighth says that more follow."""
    if value < len(_SMALL):
        return _SMALL[value]
    written = bytearray()
    while value >= len(_SMALL):
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
