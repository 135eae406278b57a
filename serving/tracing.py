"""Request ids and trace context: made where there are none, handed on only where they are sound.

What a caller sends here ends in headers, gRPC metadata and log lines of two servers, and shares a
batch with other callers' requests. So only what each of those can carry is taken over.
"""

from __future__ import annotations

import re
import secrets
from itertools import count
from typing import Final

from serving.calls import Trace

_REQUEST_ID: Final = re.compile(rb"[!-~](?:[ -~]{0,126}[!-~])?")
"""Printable ASCII, at most 128 characters."""
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{1,64})?"
)
"""Source: W3C Trace Context, "traceparent Header"; a later version may have more parts."""
_TRACESTATE: Final = re.compile(rb"[ -~]{1,512}")
"""Source: as above, "tracestate Header"; 512 characters are what everybody has to hand on."""


class RequestIds:
    """Gives every request an id."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode()
        self._numbers = count(1)

    def next(self) -> bytes:
        """A unique id: random prefix and a counter, a tenth of the cost of a UUID."""
        return b"%b-%x" % (self._prefix, next(self._numbers))

    def of(self, given: bytes | None) -> bytes:
        """The caller's id, or one of ours where that is missing or cannot be handed on."""
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return self.next()


def trace_of(request_id: bytes, traceparent: bytes | None, tracestate: bytes | None) -> Trace:
    """What travels with a request; a malformed trace context is dropped, as the standard says."""
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return Trace(request_id)
    if tracestate is not None and not _TRACESTATE.fullmatch(tracestate):
        tracestate = None
    return Trace(request_id, traceparent, tracestate)
