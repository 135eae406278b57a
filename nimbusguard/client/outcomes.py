"""What came of one attempt, and which error it means: no HTTP library, no clock, no IO.

::

    answer            error                              asked again
    200               none
    400               InvalidRequest                     no
    404               NotFound                           no
    413               RequestTooLarge                    no
    429               Overloaded                         no
    500 {"error"}     NonFiniteOutput                    no
    503               Unavailable                        yes, after `Retry-After`
    504               DeadlineExceeded                   yes
    other 4xx         InvalidRequest                     no
    any other         PredictorUnavailable               no
    UNREACHED         PredictorUnavailable               yes
    DISCONNECTED      PredictorUnavailable               yes
    TIMED_OUT         DeadlineExceeded                   no
    GARBLED           PredictorUnavailable               no

Asking has no effect on the server, so a connection that broke before its answer may be replaced
like one that never came about: a kept-alive connection which the server closes at the moment of
sending looks like that, and every rolling update closes many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import orjson

from nimbusguard.contract.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NimbusGuardError,
    NonFiniteOutput,
    NotFound,
    Overloaded,
    PredictorUnavailable,
    RequestTooLarge,
    Unavailable,
)

MAX_QUOTED: Final = 500
"""Characters of a foreign error body that a message repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Keys in lower case."""
    body: bytes


class Fault(Enum):
    """Why there is no answer."""

    UNREACHED = "could not connect"
    DISCONNECTED = "the connection broke before the answer"
    TIMED_OUT = "no answer in time"
    GARBLED = "the answer is no HTTP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An attempt without an answer."""

    fault: Fault
    detail: str
    """The HTTP library's words."""


Outcome = Reply | Failed

_STATUS: Final[Mapping[int, type[NimbusGuardError]]] = {
    404: NotFound,
    413: RequestTooLarge,
    429: Overloaded,
    503: Unavailable,
    504: DeadlineExceeded,
}
_ASK_AGAIN: Final = frozenset({503, 504, Fault.UNREACHED, Fault.DISCONNECTED})


def may_ask_again(outcome: Outcome) -> bool:
    """Whether another attempt is safe and may help."""
    return (outcome.status if isinstance(outcome, Reply) else outcome.fault) in _ASK_AGAIN


def answer_or_error(outcome: Outcome, url: str) -> Reply | NimbusGuardError:
    """The answer to read, or the error that the outcome means.

    Args:
        outcome: What came of an attempt.
        url: Named in the message when the outcome does not explain itself.
    """
    if isinstance(outcome, Failed):
        kind = DeadlineExceeded if outcome.fault is Fault.TIMED_OUT else PredictorUnavailable
        return kind(f"{url}: {outcome.fault.value}: {outcome.detail}")
    if outcome.status == 200:
        return outcome
    stated = _stated_error(outcome.body)
    error = _kind(outcome.status, stated=stated is not None)(stated or _unexplained(outcome, url))
    if isinstance(error, Unavailable):
        error.retry_after_s = retry_after_s(outcome) or error.retry_after_s
    return error


def retry_after_s(outcome: Outcome) -> int:
    """Whole seconds of `Retry-After`; 0 without one, or for a date, which no server here sends."""
    value = outcome.headers.get("retry-after", "") if isinstance(outcome, Reply) else ""
    # Seven digits are four months; a longer number is no instruction.
    return int(value) if value.isascii() and value.isdigit() and len(value) < 8 else 0


def _kind(status: int, *, stated: bool) -> type[NimbusGuardError]:
    if status in _STATUS:
        return _STATUS[status]
    if 400 <= status < 500:
        return InvalidRequest
    # The contract knows one 500, a network that returned NaN; a bare 500 is somebody else's.
    return NonFiniteOutput if status == 500 and stated else PredictorUnavailable


def _stated_error(body: bytes) -> str | None:
    """The message of `{"error": "..."}`, if that is what the body is."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    stated = document.get("error") if isinstance(document, dict) else None
    return stated if isinstance(stated, str) and stated else None


def _unexplained(reply: Reply, url: str) -> str:
    text = reply.body[:MAX_QUOTED].decode("utf-8", "replace").strip()
    return f'{url}: expected 200 or an {{"error"}}, got {reply.status} {text!r}'
