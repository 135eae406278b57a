"""`AsyncClient` and `Client` against a transformer made of a function: each fact for both."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from nimbusguard.client import AsyncClient, ClientSettings, Endpoint, RawVector, RetryPolicy
from nimbusguard.contract import errors
from tests.client.harness import ROW, Caller, Handler

ASK = [RawVector(values=[0.5] * 11)]
GOOD = {"predictions": [ROW]}


def answer(status: int = 200, body: Any = None, **headers: str) -> Handler:
    """A transformer that always says the same."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx.Response(status, json=body or GOOD, headers=names)


def in_turn(*handlers: Handler | Exception) -> Handler:
    """A transformer that does one thing after the other."""
    rest = iter(handlers)

    def handle(request: httpx.Request) -> httpx.Response:
        now = next(rest)
        if isinstance(now, Exception):
            raise now
        return now(request)

    return handle


def failing(trouble: Exception) -> Handler:
    """A transformer that cannot be asked."""

    def handle(request: httpx.Request) -> httpx.Response:
        raise trouble

    return handle


def error(status: int, message: str = "said so", **headers: str) -> Handler:
    return answer(status, {"error": message}, **headers)


def test_a_decision_is_asked_for_and_read(call: Caller) -> None:
    """One POST with JSON to the predict path; the answer comes back as a value."""
    decisions = call(answer(), "decide", ASK)

    (request,) = call.requests
    assert [decision.to_dict() for decision in decisions] == [ROW]
    assert (request.method, str(request.url)) == (
        "POST",
        "http://transformer/v1/models/nimbusguard-dqn:predict",
    )
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {"instances": [[0.5] * 11]}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (404, errors.NotFound),
        (405, errors.InvalidRequest),
        (413, errors.RequestTooLarge),
        (429, errors.Overloaded),
        (500, errors.NonFiniteOutput),
        (502, errors.PredictorUnavailable),
        (503, errors.Unavailable),
        (504, errors.DeadlineExceeded),
        (302, errors.PredictorUnavailable),
        (204, errors.PredictorUnavailable),
    ],
)
def test_a_status_becomes_the_error_of_the_contract(
    call: Caller, status: int, kind: type[errors.NimbusGuardError]
) -> None:
    """With the server's message, unaltered."""
    with pytest.raises(errors.NimbusGuardError) as caught:
        call(error(status, "instances[0].pod_count: expected a number"), "decide", ASK)

    assert type(caught.value) is kind
    assert str(caught.value) == "instances[0].pod_count: expected a number"


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b'{"detail": "x"}', b"\xff"])
@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_status_without_our_error_shape_is_explained(
    call: Caller, status: int, body: bytes
) -> None:
    """A gateway's page is quoted with the URL and the status, and a foreign 500 is no NaN."""
    with pytest.raises(errors.NimbusGuardError, match=rf"http://transformer/.* got {status}") as e:
        call(lambda request: httpx.Response(status, content=body), "decide", ASK)

    assert not isinstance(e.value, errors.NonFiniteOutput)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"predictions": [', errors.PredictorUnavailable),
        (b"OK", errors.PredictorUnavailable),
        (b'{"predictions": []}', errors.PredictorUnavailable),
        (json.dumps({"predictions": [ROW | {"fingerprint": "x"}]}), errors.IncompatibleModel),
        (json.dumps({"predictions": [ROW | {"q_values": [None] * 5}]}), errors.NonFiniteOutput),
    ],
)
def test_a_200_that_is_no_decision_is_an_error_and_not_asked_again(
    call: Caller, body: bytes | str, kind: type[errors.NimbusGuardError]
) -> None:
    """Broken JSON, a foreign fingerprint and null end the call: the next answer would be alike."""
    with pytest.raises(kind):
        call(lambda request: httpx.Response(200, content=body), "decide", ASK)

    assert len(call.requests) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        error(503),
        error(504),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("lost"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        httpx.ReadError("reset"),
    ],
)
def test_trouble_that_passes_is_survived(call: Caller, trouble: Handler | Exception) -> None:
    """A connect error, a broken connection, 503 and 504 are asked again, after a pause."""
    decisions = call(in_turn(trouble, trouble, answer()), "decide", ASK)

    first, second = call.time.pauses
    assert len(decisions) == 1
    assert len(call.requests) == 3
    assert 0.05 <= first <= 0.1 <= second <= 0.2


def test_the_request_id_stays_the_same_over_all_attempts(call: Caller) -> None:
    """One question, one id: the server's log shows the attempts as what they are."""
    call(in_turn(error(503), error(503), answer()), "decide", ASK)
    call(answer(), "decide", ASK, request_id="loop-17")

    ids = [request.headers["x-request-id"] for request in call.requests]
    assert len(set(ids[:3])) == 1
    assert len(ids[0]) == 32
    assert ids[3] == "loop-17"


def test_an_error_carries_the_request_id_as_a_note(call: Caller) -> None:
    """So that a traceback leads to the server's log."""
    with pytest.raises(errors.InvalidRequest) as caught:
        call(error(400), "decide", ASK, request_id="loop-18")

    assert caught.value.__notes__ == ["x-request-id: loop-18"]


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 502])
def test_what_would_not_change_is_not_asked_again(call: Caller, status: int) -> None:
    """Exactly one request."""
    with pytest.raises(errors.NimbusGuardError):
        call(error(status), "decide", ASK)

    assert len(call.requests) == 1
    assert call.time.pauses == []


def test_a_read_timeout_is_not_asked_again(call: Caller) -> None:
    """The time is spent, and a slow server is not helped by a second copy of the work."""
    with pytest.raises(errors.DeadlineExceeded, match="no answer in time: slow"):
        call(in_turn(httpx.ReadTimeout("slow")), "decide", ASK)

    assert len(call.requests) == 1


def test_attempts_end_with_the_last_error(call: Caller) -> None:
    """Four sends by default, then the server's own words."""
    with pytest.raises(errors.Unavailable, match="model is loading"):
        call(error(503, "model is loading"), "decide", ASK)

    assert len(call.requests) == 4


def test_retry_after_is_honoured(call: Caller) -> None:
    """The pause is at least what the server asked for, and little more."""
    call(in_turn(error(503, retry_after="2"), answer()), "decide", ASK)

    (pause,) = call.time.pauses
    assert 2.0 <= pause < 2.1


def test_a_retry_after_beyond_the_deadline_ends_the_call_at_once(call: Caller) -> None:
    """Waiting could not help; the caller's fallback gets the time instead."""
    with pytest.raises(errors.Unavailable) as caught:
        call(error(503, retry_after="30"), "decide", ASK)

    assert caught.value.retry_after_s == 30
    assert call.time.pauses == []


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1.5", "99999999", "²"])
def test_a_retry_after_that_is_no_number_of_seconds_is_ignored(call: Caller, value: str) -> None:
    """The client's own backoff applies, and the error keeps its default."""
    with pytest.raises(errors.Unavailable) as caught:
        call(
            lambda request: httpx.Response(
                503, headers=[(b"retry-after", value.encode("latin-1"))]
            ),
            "decide",
            ASK,
        )

    assert caught.value.retry_after_s == 1
    assert len(call.requests) == 4


def test_attempts_share_one_deadline(call: Caller) -> None:
    """Each slow attempt leaves the next one less time, and none begins without any."""

    def slow(request: httpx.Request) -> httpx.Response:
        call.time.now += 0.95
        return error(504, "predictor slower than 2 s")(request)

    start = call.time.now
    with pytest.raises(errors.DeadlineExceeded, match="slower than 2 s"):
        call(slow, "decide", ASK, deadline_s=2.0)

    assert call.time.now - start < 2.0
    timeouts = [request.extensions["timeout"] for request in call.requests]
    assert [timeout["connect"] for timeout in timeouts] == pytest.approx([0.5, 0.5])
    assert timeouts[0]["read"] == pytest.approx(2.0)
    assert 0.9 < timeouts[1]["read"] < 1.0


def test_a_pause_that_takes_too_long_ends_the_call(call: Caller) -> None:
    """A suspended machine wakes after the deadline: no attempt is made then."""
    sleep = call.time.sleep
    call.time.sleep = lambda seconds: sleep(seconds + 60.0)  # type: ignore[method-assign]

    with pytest.raises(errors.Unavailable):
        call(error(503), "decide", ASK)

    assert len(call.requests) == 1


def test_every_hundredth_request_closes_its_connection(call: Caller) -> None:
    """So that callers spread over pods that were added after they connected."""
    call.settings = replace(call.settings, connection_requests=3, retry=RetryPolicy(attempts=7))

    with pytest.raises(errors.PredictorUnavailable):
        call(in_turn(*[httpx.ConnectError("refused")] * 7), "decide", ASK)

    closing = [request.headers["connection"] == "close" for request in call.requests]
    assert closing == [False, False, True, False, False, True, False]


def test_an_endless_answer_is_given_up(call: Caller) -> None:
    """The limit counts bytes that were really received."""
    call.settings = replace(call.settings, max_answer_bytes=100)

    with pytest.raises(errors.PredictorUnavailable, match="more than 100 bytes"):
        call(lambda request: httpx.Response(200, content=b" " * 101), "decide", ASK)


def test_a_damaged_content_encoding_is_an_error_of_ours(call: Caller) -> None:
    """What httpx cannot decode is no answer."""

    def damaged(request: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(b"not gzip")
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    with pytest.raises(errors.PredictorUnavailable, match="is no HTTP"):
        call(damaged, "decide", ASK)


@pytest.mark.parametrize("request_id", ["", " a", "a\nb", "ü"])
def test_a_request_id_that_no_header_can_carry_is_refused(call: Caller, request_id: str) -> None:
    """Before anything is sent."""
    with pytest.raises(errors.InvalidRequest, match="request_id"):
        call(answer(), "decide", ASK, request_id=request_id)

    assert call.requests == []


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deadline_that_is_none_is_refused(call: Caller, deadline: float) -> None:
    """A call without an end is not to be had."""
    with pytest.raises(errors.InvalidRequest, match="deadline_s: expected a finite number"):
        call(answer(), "decide", ASK, deadline_s=deadline)


@pytest.mark.parametrize(
    ("handler", "ready"),
    [
        (answer(200, {"name": "nimbusguard-dqn", "ready": True}), True),
        (answer(200, {"name": "nimbusguard-dqn", "ready": False}), False),
        (answer(200, {"name": "nimbusguard-dqn", "ready": "True"}), False),
        (lambda request: httpx.Response(200, content=b"OK"), False),
        (answer(200, [1]), False),
        (error(503), False),
        (error(404), False),
        (failing(httpx.ConnectError("refused")), False),
        (failing(httpx.ReadTimeout("slow")), False),
    ],
)
def test_readiness_is_a_fact_and_not_an_exception(
    call: Caller, handler: Handler, *, ready: bool
) -> None:
    """Asked once; whatever is not a clear yes is a no."""
    assert call(handler, "ready") is ready
    assert str(call.requests[0].url) == "http://transformer/v1/models/nimbusguard-dqn"
    assert len(call.requests) == 1


METADATA = {
    "name": "nimbusguard-dqn",
    "platform": "nimbusguard",
    "versions": ["2"],
    "inputs": [{"name": "raw_metrics", "datatype": "FP64", "shape": [-1, 11]}],
    "outputs": [{"name": "action_index", "datatype": "INT64", "shape": ["-1"]}],
}


def test_metadata_is_read(call: Caller) -> None:
    """Names, versions and tensors as values."""
    metadata = call(answer(200, METADATA), "metadata")

    assert metadata.versions == ("2",)
    assert metadata.inputs[0].shape == (-1, 11)
    assert metadata.outputs[0].datatype == "INT64"
    assert str(call.requests[0].url) == "http://transformer/v2/models/nimbusguard-dqn"


def test_a_model_without_versions_has_none(call: Caller) -> None:
    """The protocol makes the list optional, and KServe sends null."""
    assert call(answer(200, METADATA | {"versions": None}), "metadata").versions == ()


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"inputs": None},
        {"inputs": [1]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["a"]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1.5]}]},
        {"inputs": [{"name": "x", "datatype": "FP32"}]},
        {"versions": [2]},
    ],
)
def test_metadata_of_another_shape_is_refused(call: Caller, change: dict[str, Any]) -> None:
    """The message says which protocol was expected."""
    with pytest.raises(errors.PredictorUnavailable, match="Open Inference Protocol"):
        call(answer(200, METADATA | change), "metadata")


@pytest.mark.parametrize("field", ["deadline_s", "connect_timeout_s", "read_timeout_s"])
def test_settings_without_an_end_are_refused(field: str) -> None:
    """Every wait has an end, or the settings are not made."""
    with pytest.raises(errors.InvalidRequest, match=f"{field}: expected a finite number"):
        ClientSettings(**{field: float("inf")})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["connection_requests", "max_answer_bytes"])
def test_settings_of_nothing_are_refused(field: str) -> None:
    """Zero would mean never, or always; neither is meant."""
    with pytest.raises(errors.InvalidRequest, match=f"{field}: expected at least 1, got 0"):
        ClientSettings(**{field: 0})  # type: ignore[arg-type]


async def test_the_deadline_of_the_async_client_is_absolute() -> None:
    """A server that never ends its answer, byte by byte, is left at the deadline."""
    never = asyncio.Event()

    async def trickle(request: httpx.Request) -> httpx.Response:
        await never.wait()
        return httpx.Response(200)

    settings = ClientSettings(endpoint=Endpoint(base_url="http://transformer"), deadline_s=0.02)
    async with AsyncClient(settings, transport=httpx.MockTransport(trickle)) as client:
        with pytest.raises(errors.DeadlineExceeded, match=r"0\.020 s were left"):
            await client.decide(ASK)


async def test_a_cancelled_call_is_cancelled_and_no_timeout() -> None:
    """The caller's own cancellation passes through unchanged."""
    entered = asyncio.Event()

    async def forever(request: httpx.Request) -> httpx.Response:
        entered.set()
        await asyncio.Event().wait()
        return httpx.Response(200)

    async with AsyncClient(transport=httpx.MockTransport(forever)) as client:
        task = asyncio.create_task(client.decide(ASK))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_many_questions_at_once_each_get_their_own_answer() -> None:
    """One client serves many tasks; answers are not mixed up."""

    async def echo(request: httpx.Request) -> httpx.Response:
        replicas = json.loads(request.content)["instances"][0][0]
        await asyncio.sleep(0)
        row = ROW | {"current_replicas": replicas, "target_replicas": replicas + 1}
        return httpx.Response(200, json={"predictions": [row]})

    async with AsyncClient(
        transport=httpx.MockTransport(echo), rng=np.random.default_rng(1)
    ) as client:
        answers = await asyncio.gather(
            *(client.decide([RawVector(values=[n] * 11)]) for n in range(200))
        )

    assert [decision.current_replicas for (decision,) in answers] == list(range(200))


def test_the_sync_client_leaves_a_body_that_outlasts_the_deadline() -> None:
    """The clock is read whenever bytes arrive."""
    call = Caller("sync")

    def trickle(request: httpx.Request) -> httpx.Response:
        def drops() -> Any:
            for _ in range(10):
                call.time.now += 1.0
                yield b" "

        return httpx.Response(200, content=drops())

    with pytest.raises(errors.DeadlineExceeded, match="no answer in time"):
        call(trickle, "decide", ASK)
    assert call.time.now == 1006.0
