"""The error tree to HTTP and gRPC: the one place that knows both."""

from __future__ import annotations

from typing import Final, NamedTuple

from nimbusguard.contract.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NimbusGuardError,
    NonFiniteOutput,
    NotFound,
    RequestTooLarge,
    Unavailable,
)


class Status(NamedTuple):
    """How an error is told."""

    http: int
    grpc: str
    """The name of a `grpc.StatusCode`."""


INTERNAL: Final = Status(500, "INTERNAL")

# The most specific class first; a class that is not here is told as its base.
_STATUSES: Final[tuple[tuple[type[NimbusGuardError], Status], ...]] = (
    (RequestTooLarge, Status(413, "RESOURCE_EXHAUSTED")),
    (InvalidRequest, Status(400, "INVALID_ARGUMENT")),
    (NotFound, Status(404, "NOT_FOUND")),
    (Unavailable, Status(503, "UNAVAILABLE")),
    (DeadlineExceeded, Status(504, "DEADLINE_EXCEEDED")),
    (NonFiniteOutput, INTERNAL),
)


def status_of(error: BaseException) -> Status:
    """The status of an error; anything foreign is our own fault."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return INTERNAL


def retry_after_of(error: BaseException) -> int | None:
    """Whole seconds for `Retry-After`, where a retry makes sense."""
    return error.retry_after_s if isinstance(error, Unavailable) else None
