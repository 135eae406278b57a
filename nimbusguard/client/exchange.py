"""The conversation with the transformer, without IO: what to send, how long to wait, when to stop.

Each method of `Conversation` is a generator. It yields a `Send` or a `Pause`, is sent the outcome,
and returns the value that the caller asked for. `AsyncClient` and `Client` only carry these steps
out, so there is one copy of every rule and a test can drive it by hand.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import orjson

from nimbusguard.client.decision import Decision, decisions_from
from nimbusguard.client.endpoint import DEFAULT_ENDPOINT, Endpoint
from nimbusguard.client.instances import Instance, encode
from nimbusguard.client.metadata import ModelMetadata, metadata_from
from nimbusguard.client.outcomes import (
    Outcome,
    Reply,
    answer_or_error,
    may_ask_again,
    retry_after_s,
)
from nimbusguard.client.retry import RetryPolicy, next_delay_s
from nimbusguard.contract.errors import DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Where to ask and how long to wait."""

    endpoint: Endpoint = field(default_factory=lambda: Endpoint.parse(DEFAULT_ENDPOINT))
    deadline_s: float = 5.0
    """Seconds for one call, retries and pauses included. A third of the 15 s control loop, which
    leaves time for a fallback in the same interval."""
    connect_timeout_s: float = 0.5
    """Seconds to open a connection; inside a cluster it takes a millisecond or is lost."""
    read_timeout_s: float = 2.5
    """Seconds for one attempt's answer: longer than the transformer's own 2 s towards the
    predictor, so that its 504 is heard, and short enough for a second attempt."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    connection_requests: int = 100
    """Every so many requests one closes its connection. Kubernetes balances connections, not
    requests: one kept open for ever sticks to one pod, also after others were added."""
    max_answer_bytes: int = 64 * 1024 * 1024
    """Bytes of an answer that are read before it is given up; 10,000 decisions take about 6 MiB."""
    fingerprint: str = FINGERPRINT
    """The feature table that the caller was built for; decisions for another one are refused."""

    @classmethod
    def of(cls, settings: Settings) -> ClientSettings:
        """What the shared settings say, defaults otherwise."""
        return cls(endpoint=Endpoint.parse(settings.kserve_endpoint))

    def __post_init__(self) -> None:
        for name in ("deadline_s", "connect_timeout_s", "read_timeout_s"):
            check_seconds(name, getattr(self, name))
        for name in ("connection_requests", "max_answer_bytes"):
            if getattr(self, name) < 1:
                message = f"{name}: expected at least 1, got {getattr(self, name)}"
                raise InvalidRequest(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Make one attempt; answer with its `Outcome`."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes
    connect_timeout_s: float
    read_timeout_s: float
    remaining_s: float
    """Seconds until the deadline: the attempt must end by then, however the server dawdles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait; answer with None."""

    seconds: float


Step = Send | Pause
Talk = Generator[Step, Outcome | None, T]
"""Yields steps, is sent their outcomes (None after a pause), returns a T."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    method: str
    url: str
    deadline_s: float
    request_id: str
    retry: RetryPolicy
    content: bytes = b""
    traceparent: str | None = None


class Conversation:
    """The rules of one client over its settings, a clock and a source of chance."""

    def __init__(
        self, settings: ClientSettings, *, clock: Callable[[], float], rng: np.random.Generator
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._numbers = itertools.count(1)

    def decide(
        self,
        instances: Sequence[Instance],
        *,
        deadline_s: float | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Talk[list[Decision]]:
        """Ask for one decision an instance, in their order."""
        question = replace(
            self._question("POST", self._settings.endpoint.predict_url), content=encode(instances)
        )
        if deadline_s is not None:
            check_seconds("deadline_s", deadline_s)
            question = replace(question, deadline_s=deadline_s)
        if request_id is not None:
            check_request_id(request_id)
            question = replace(question, request_id=request_id)
        if traceparent is not None:
            question = replace(question, traceparent=traceparent)
        reply = yield from self._ask(question)
        return decisions_from(
            reply.body, expected=len(instances), fingerprint=self._settings.fingerprint
        )

    def metadata(self) -> Talk[ModelMetadata]:
        """Ask what the model says about itself."""
        reply = yield from self._ask(self._question("GET", self._settings.endpoint.metadata_url))
        return metadata_from(reply.body)

    def ready(self) -> Talk[bool]:
        """Ask once whether decisions can be had. An answer that says no is an answer."""
        question = self._question("GET", self._settings.endpoint.ready_url)
        try:
            reply = yield from self._ask(
                replace(question, retry=replace(question.retry, attempts=1))
            )
            document = orjson.loads(reply.body)
        except (Unavailable, DeadlineExceeded, NotFound, orjson.JSONDecodeError):
            return False
        return isinstance(document, dict) and document.get("ready") is True

    def _question(self, method: str, url: str) -> _Question:
        return _Question(
            method=method,
            url=url,
            deadline_s=self._settings.deadline_s,
            request_id=self._rng.bytes(16).hex(),
            retry=self._settings.retry,
        )

    def _ask(self, question: _Question) -> Talk[Reply]:
        """Attempt, and attempt again while that is safe, may help and is in time."""
        ends = self._clock() + question.deadline_s
        remaining = question.deadline_s
        retry = 0
        while True:
            outcome = yield self._send(question, remaining)
            answer = answer_or_error(_made(outcome), question.url)
            if isinstance(answer, Reply):
                return answer
            answer.add_note(f"x-request-id: {question.request_id}")
            pause = self._pause(_made(outcome), question, retry, ends - self._clock())
            if pause is None:
                raise answer
            yield pause
            remaining = ends - self._clock()
            if remaining <= 0.0:  # the pause took longer than it should have
                raise answer
            retry += 1

    def _pause(
        self, outcome: Outcome, question: _Question, retry: int, remaining_s: float
    ) -> Pause | None:
        if not may_ask_again(outcome):
            return None
        delay = next_delay_s(
            question.retry,
            retry=retry,
            chance=self._rng.random(),
            remaining_s=remaining_s,
            retry_after_s=retry_after_s(outcome),
        )
        return None if delay is None else Pause(seconds=delay)

    def _send(self, question: _Question, remaining_s: float) -> Send:
        headers = {"accept": "application/json", "x-request-id": question.request_id}
        if question.traceparent is not None:
            headers["traceparent"] = question.traceparent
        if question.content:
            headers["content-type"] = "application/json"
        if next(self._numbers) % self._settings.connection_requests == 0:
            headers["connection"] = "close"
        return Send(
            method=question.method,
            url=question.url,
            headers=headers,
            content=question.content,
            connect_timeout_s=min(self._settings.connect_timeout_s, remaining_s),
            read_timeout_s=min(self._settings.read_timeout_s, remaining_s),
            remaining_s=remaining_s,
        )


def check_seconds(name: str, value: float) -> None:
    """Refuse a duration that is not a finite number of seconds above 0."""
    if not (math.isfinite(value) and value > 0.0):
        message = f"{name}: expected a finite number of seconds above 0, got {value}"
        raise InvalidRequest(message)


def check_request_id(value: str) -> None:
    """Refuse a request id that no HTTP header can carry."""
    if not (value.isascii() and value.isprintable() and value.strip() == value != ""):
        message = f"request_id: expected printable ASCII without blanks around it, got {value!r}"
        raise InvalidRequest(message)


def _made(outcome: Outcome | None) -> Outcome:
    if outcome is None:
        message = "a Send must be answered with its outcome"
        raise TypeError(message)
    return outcome
