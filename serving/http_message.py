"""One HTTP request as the application sees it, and the head of its answer.

The connection that it came by is behind `Answering`; `serving.http` has it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import parse_qsl

from nimbusguard.contract.errors import NimbusGuardError
from serving.calls import Trace

JSON: Final = b"application/json"
NO_HEADERS: Final[Mapping[bytes, bytes]] = {}
_AUTHORITY: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Answering(Protocol):
    """The connection of a request, as far as the request knows it."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""

    def answer(
        self,
        request: HttpRequest,
        status: int,
        body: bytes,
        content_type: bytes,
        headers: Mapping[bytes, bytes],
    ) -> None:
        """Send the answer to a request; the first one counts."""


class HttpRequest:
    """One request and the means to answer it."""

    __slots__ = (
        "_connection",
        "_url",
        "body",
        "fault",
        "headers",
        "is_http_1_0",
        "keep_alive",
        "method",
        "request_id",
        "route",
        "started",
        "trace",
    )

    def __init__(self, connection: Answering, method: bytes, url: bytes) -> None:
        self._connection = connection
        self._url = url
        self.method = method
        self.headers: dict[bytes, bytes] = {}
        self.body: bytes = b""
        self.fault: NimbusGuardError | None = None
        """What is wrong with the request as HTTP; the application answers with it."""
        self.keep_alive = True
        self.is_http_1_0 = False
        """Whether the caller has to be told that the connection stays open."""
        self.request_id = b""
        self.route = "other"
        """A bounded name for metrics, set by the application."""
        self.started = time.perf_counter()
        self.trace: Trace | None = None
        """What travels with an inference in a trace; None for all else."""

    @property
    def path(self) -> bytes:
        """The path without query, as it came."""
        url = self._url
        if url[:1] != b"/":
            # Absolute form, as proxies get it (RFC 9112, 3.2.2); anything else is no path of ours.
            authority = _AUTHORITY.match(url)
            if authority:
                url = url[authority.end() :]
                url = url if url[:1] == b"/" else b"/" + url
        end = url.find(b"?")
        return url if end < 0 else url[:end]

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query; of one that comes twice, the last."""
        text = self._url.partition(b"?")[2].partition(b"#")[0].decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, errors="replace"))

    @property
    def is_abandoned(self) -> bool:
        """Whether the caller has gone, so that work for it is in vain."""
        return self._connection.is_closed

    def respond(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        headers: Mapping[bytes, bytes] = NO_HEADERS,
    ) -> None:
        """Send the answer."""
        self._connection.answer(self, status, body, content_type, headers)


def response_head(
    status: int,
    content_type: bytes,
    length: int,
    date: bytes,
    request_id: bytes,
    *,
    connection: bytes,
    headers: Mapping[bytes, bytes],
) -> bytes:
    """Status line and headers of an answer.

    Args:
        status: The HTTP status.
        content_type: Of the body.
        length: Bytes of the body, sent or, to HEAD, not.
        date: As RFC 9110 writes it.
        request_id: Echoed.
        connection: The Connection header's value; empty for none.
        headers: Further ones.
    """
    return (
        b"%bcontent-type: %b\r\ncontent-length: %d\r\ndate: %b\r\nx-request-id: %b\r\n%b%b\r\n"
        % (
            _STATUS_LINES[status],
            content_type,
            length,
            date,
            request_id,
            b"connection: %b\r\n" % connection if connection else b"",
            b"".join([b"%b: %b\r\n" % pair for pair in headers.items()]) if headers else b"",
        )
    )
