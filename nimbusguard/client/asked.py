"""How a question to KServe ended: what a judgement of the version that it serves is made from."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from nimbusguard.contract.errors import (
    InvalidRequest,
    NonFiniteOutput,
    PredictorUnavailable,
    Unavailable,
)


class Ended(StrEnum):
    """The end of a question about one workload."""

    NOT_ASKED = "not_asked"
    """Its metrics were incomplete, the circuit breaker was open, or no KServe is configured."""
    ANSWERED = "answered"
    UNTRUSTED = "untrusted"
    """Answered by a version that is not validated yet, or that failed validation."""
    REFUSED = "refused"
    """503: overloaded, or a version that its transformer will not decide with."""
    REFUSED_QUESTION = "refused_question"
    """400: the server is well; it is the question that is not."""
    NON_FINITE = "non_finite"
    """The network gave NaN or infinity."""
    FAILED = "failed"
    """Unreachable, too late, another 5xx, or an answer to another question."""


class Asked(NamedTuple):
    """The end of a question, and how long it took."""

    ended: Ended
    seconds: float | None = None
    """From the question to its end; None if it was not asked."""


NOT_ASKED: Final = Asked(Ended.NOT_ASKED)


def ended_by(error: Exception) -> Ended:
    """The end that an error of the client means."""
    if isinstance(error, InvalidRequest):
        return Ended.REFUSED_QUESTION
    if isinstance(error, Unavailable) and not isinstance(error, PredictorUnavailable):
        return Ended.REFUSED
    if isinstance(error, NonFiniteOutput):
        return Ended.NON_FINITE
    return Ended.FAILED
