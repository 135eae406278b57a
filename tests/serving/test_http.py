"""One connection of the HTTP front, without a network: bytes in, bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from serving.http import HttpConnection
from serving.http_message import HttpRequest
from serving.tracing import RequestIds

GET = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT = 1000


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False
        self.ended = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)

    def write_eof(self) -> None:
        assert not self.closed
        self.ended = True

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class App:
    """What the connection asks of its server; requests wait until a test answers them."""

    def __init__(self, *, answers_at_once: bool = False) -> None:
        self.max_body_bytes = LIMIT
        self.is_draining = False
        self.date = b"Thu, 01 Jan 1970 00:00:00 GMT"
        self.connections: set[HttpConnection] = set()
        self.ids = RequestIds()
        self.requests: list[HttpRequest] = []
        self.observed: list[int] = []
        self._answers_at_once = answers_at_once

    def handle(self, request: HttpRequest) -> None:
        self.requests.append(request)
        if self._answers_at_once or request.fault is not None:
            status = 200 if request.fault is None else 400
            request.respond(status, str(request.fault or len(self.requests)).encode())

    def observe(self, request: HttpRequest, status: int) -> None:
        self.observed.append(status)


class Peer(HttpConnection):
    """The connection with its fake ends."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.app = app
        self.transport = FakeTransport()
        self.connection_made(self.transport)

    @property
    def answers(self) -> list[bytes]:
        """Status and body of all answers."""
        writes = self.transport.writes
        return [data[9:12] + b" " + data.partition(b"\r\n\r\n")[2] for data in writes]


@pytest.fixture
def waiting() -> Peer:
    return Peer(App())


@pytest.fixture
def prompt() -> Peer:
    return Peer(App(answers_at_once=True))


def post(body: bytes, extra: bytes = b"") -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n%b" % (
        len(body),
        extra,
        body,
    )


def test_answers_come_in_the_order_of_the_requests(waiting: Peer) -> None:
    """The second request starts when the first is answered, and no sooner."""
    waiting.data_received(GET + GET)
    assert len(waiting.app.requests) == 1

    waiting.app.requests[0].respond(200, b"first")
    waiting.app.requests[1].respond(200, b"second")

    assert waiting.answers == [b"200 first", b"200 second"]


def test_thousands_of_pipelined_requests_are_all_answered(waiting: Peer) -> None:
    """They are worked off in a loop: recursion ended in 500s and blocked the server for 45 s."""
    waiting.data_received(GET * 5001)
    waiting.app._answers_at_once = True

    waiting.app.requests[0].respond(200, b"1")

    assert waiting.answers == [b"200 %d" % (index + 1) for index in range(5001)]


def test_garbage_behind_a_good_request_does_not_cost_it_its_answer(waiting: Peer) -> None:
    """The refusal waits for its turn, and only then the connection ends."""
    waiting.data_received(GET + b"garbage\r\n\r\n")
    assert not waiting.transport.closed

    waiting.app.requests[0].respond(200, b"good")

    assert waiting.answers[0] == b"200 good"
    assert waiting.answers[1].startswith(b"400 expected an HTTP/1.1 request")
    assert waiting.transport.ended


def test_a_request_behind_connection_close_does_not_cost_the_first_its_answer(
    waiting: Peer,
) -> None:
    """Nothing may follow `Connection: close`; what came before it is still answered."""
    waiting.data_received(GET[:-2] + b"Connection: close\r\n\r\n" + GET)

    waiting.app.requests[0].respond(200, b"good")

    assert waiting.answers == [b"200 good"]
    assert b"connection: close" in waiting.transport.sent
    assert waiting.transport.ended


def test_nothing_is_read_behind_garbage(waiting: Peer) -> None:
    """The place of the next request is lost, so that none is guessed."""
    waiting.data_received(GET + b"garbage\r\n\r\n")
    waiting.data_received(GET)

    waiting.app.requests[0].respond(200, b"good")

    assert len(waiting.answers) == 2


def test_a_second_answer_to_a_request_is_dropped(waiting: Peer) -> None:
    """It would be taken for the answer to the next one."""
    waiting.data_received(GET + GET)

    waiting.app.requests[0].respond(200, b"first")
    waiting.app.requests[0].respond(500, b"again")
    waiting.app.requests[1].respond(200, b"second")

    assert waiting.answers == [b"200 first", b"200 second"]
    assert waiting.app.observed == [200, 200]


def test_a_caller_who_does_not_read_gets_no_further_answers(prompt: Peer) -> None:
    """While its answers are stuck, its requests wait and nothing more is read from it."""
    prompt.pause_writing()
    prompt.data_received(GET + GET)
    assert prompt.answers == []
    assert not prompt.transport.reading

    prompt.resume_writing()

    assert prompt.answers == [b"200 1", b"200 2"]
    assert prompt.transport.reading


def test_reading_pauses_while_many_requests_wait(waiting: Peer) -> None:
    """Sixteen requests may wait for their turn; with the next free place reading goes on."""
    waiting.data_received(GET * 17)
    assert not waiting.transport.reading

    waiting.app.requests[0].respond(200, b"first")

    assert waiting.transport.reading


def test_an_upgrade_is_ignored_and_its_body_read(waiting: Peer) -> None:
    """`curl --http2` sends `Upgrade: h2c` with a POST and is answered over HTTP/1.1."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"

    waiting.data_received(post(b"hello", upgrade))

    assert [request.body for request in waiting.app.requests] == [b"hello"]
    assert b"upgrade" not in waiting.app.requests[0].headers


def test_thousands_of_upgrades_in_one_read_are_all_answered(prompt: Peer) -> None:
    """The head that is fed again may be followed by another upgrade, and so on."""
    prompt.data_received((GET[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n") * 2000)

    assert len(prompt.answers) == 2000


@pytest.mark.parametrize(
    "chunk", [b"GET /v2 HTTP/1.1\r\nX: ", b"GET /"], ids=["one header", "the target"]
)
def test_a_head_without_an_end_is_refused(prompt: Peer, chunk: bytes) -> None:
    """The parser keeps an unfinished header in memory, so its size is counted as it comes."""
    prompt.data_received(chunk)
    for _ in range(70):
        prompt.data_received(b"a" * 1000)

    assert prompt.answers[0].startswith(b"400 expected at most 65536 bytes of request line")
    assert prompt.transport.ended


def test_a_client_that_still_sends_does_not_lose_its_refusal(prompt: Peer) -> None:
    """Closing a socket with unread bytes resets it; so the rest is read into nothing first."""
    prompt.data_received(b"garbage\r\n\r\n")
    assert prompt.transport.ended
    assert prompt.is_lingering

    for _ in range(100):
        prompt.data_received(b"a" * 65_536)

    assert not prompt.transport.closed
    assert len(prompt.answers) == 1
    assert prompt.eof_received() is False


def test_a_client_that_never_stops_sending_is_cut_off(prompt: Peer) -> None:
    """What is thrown away is bounded in bytes here, and in seconds by the server's sweep."""
    prompt.data_received(b"garbage\r\n\r\n")

    for _ in range(65):
        prompt.data_received(b"a" * (1 << 20))

    assert prompt.transport.closed


def test_a_body_is_no_part_of_the_head(prompt: Peer) -> None:
    """Requests in many pieces, body of one and head of the next together, are no long head."""
    prompt.app.max_body_bytes = 1 << 20
    data = post(b"x" * 65_000) * 20

    for start in range(0, len(data), 7919):
        prompt.data_received(data[start : start + 7919])

    assert prompt.answers == [b"200 %d" % (index + 1) for index in range(20)]


def test_a_body_over_the_limit_is_refused_before_it_comes(prompt: Peer) -> None:
    """413 at once, the body read into nothing, and the next request answered."""
    body = b"x" * (LIMIT + 1)
    request = post(body)

    prompt.data_received(request[: -len(body)])
    assert prompt.answers == [
        b"400 body: expected at most 1000 bytes, got 1001; send fewer rows at a time"
    ]
    prompt.data_received(body)
    prompt.data_received(GET)

    assert prompt.answers[1] == b"200 2"
    assert not prompt.transport.closed


def test_chunks_over_the_limit_are_refused_and_the_connection_stays(prompt: Peer) -> None:
    """Without a declared length the limit is met on the way; the rest is read into nothing."""
    prompt.data_received(b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        prompt.data_received(b"64\r\n" + b"x" * 100 + b"\r\n")
    prompt.data_received(b"0\r\n\r\n" + GET)

    assert [answer[:3] for answer in prompt.answers] == [b"400", b"200"]
    assert not prompt.transport.closed


def test_a_chunked_body_is_joined(waiting: Peer) -> None:
    """Chunks, their extensions and trailers leave no trace in the body."""
    waiting.data_received(
        b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )

    assert waiting.app.requests[0].body == b"hello"


def test_a_client_that_waits_is_waved_on(waiting: Peer) -> None:
    """`Expect: 100-continue`, as curl sends it with a large body."""
    request = post(b"hello", b"Expect: 100-continue\r\n")

    waiting.data_received(request[:-5])
    assert waiting.transport.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    waiting.data_received(request[-5:])

    assert waiting.app.requests[0].body == b"hello"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(lambda request: GET + request, id="while an earlier answer is due"),
        pytest.param(lambda request: request.replace(b"HTTP/1.1", b"HTTP/1.0"), id="in HTTP/1.0"),
    ],
)
def test_nobody_is_waved_on(waiting: Peer, before: Callable[[bytes], bytes]) -> None:
    """An interim answer there would be taken for something else (RFC 9110, 10.1.1)."""
    request = post(b"hello", b"Expect: 100-continue\r\n")[:-5]

    waiting.data_received(before(request))

    assert waiting.transport.sent == b""


def test_http_1_0_closes_unless_asked_otherwise(prompt: Peer) -> None:
    """Without a Connection header the answer is the last; with keep-alive it says so."""
    prompt.data_received(b"GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"connection: keep-alive\r\n" in prompt.transport.sent
    assert not prompt.transport.closed

    prompt.data_received(b"GET /v2 HTTP/1.0\r\n\r\n")

    assert b"connection: close\r\n" in prompt.transport.sent
    assert prompt.transport.closed


def test_the_last_answer_of_a_server_that_stops_says_close(waiting: Peer) -> None:
    """Only the last one: what was pipelined behind it is still answered."""
    waiting.data_received(GET + GET)
    waiting.app.is_draining = True

    waiting.app.requests[0].respond(200, b"first")
    assert b"connection: close" not in waiting.transport.sent
    waiting.app.requests[1].respond(200, b"second")

    assert b"connection: close" in waiting.transport.sent
    assert waiting.transport.closed


def test_a_half_closed_connection_still_gets_its_answers(waiting: Peer) -> None:
    """`nc -N` closes its sending half behind the request."""
    waiting.data_received(GET + GET)
    assert waiting.eof_received()

    waiting.app.requests[0].respond(200, b"first")
    waiting.app.requests[1].respond(200, b"second")

    assert waiting.answers == [b"200 first", b"200 second"]
    assert waiting.transport.closed


def test_head_has_no_body_and_says_how_long_it_would_be(waiting: Peer) -> None:
    """As GET, without the body."""
    waiting.data_received(GET.replace(b"GET", b"HEAD"))

    waiting.app.requests[0].respond(200, b"hello")

    assert b"content-length: 5\r\n" in waiting.transport.sent
    assert waiting.answers == [b"200 "]


def test_a_caller_who_has_gone_is_answered_into_the_void(waiting: Peer) -> None:
    """The work may look whether anybody waits, and its late answer disturbs nobody."""
    waiting.data_received(GET)
    waiting.connection_lost(None)

    assert waiting.app.requests[0].is_abandoned
    waiting.app.requests[0].respond(200, b"late")

    assert waiting.transport.sent == b""
    assert waiting.app.connections == set()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v2?x=1", b"/v2"),
        (b"http://localhost:80/v2?x=1", b"/v2"),
        (b"HTTP://localhost", b"/"),
        (b"http://localhost?x", b"/"),
        (b"*", b"*"),
    ],
)
def test_the_path_is_found_in_every_form_of_a_target(
    waiting: Peer, target: bytes, path: bytes
) -> None:
    """Origin, absolute and asterisk form (RFC 9112, 3.2)."""
    assert HttpRequest(waiting, b"GET", target).path == path


@pytest.mark.parametrize(
    "given", [b"", b"\xff\xfe", b"a" * 129, b"a\tb"], ids=["empty", "no ASCII", "long", "tab"]
)
def test_a_request_id_that_cannot_be_handed_on_is_replaced(waiting: Peer, given: bytes) -> None:
    """Metadata of gRPC is printable ASCII only, and one bad id would spoil a whole batch."""
    waiting.data_received(GET[:-2] + b"X-Request-Id: " + given + b"\r\n\r\n")

    assert waiting.app.requests[0].request_id not in (given, given[:128])
    assert waiting.app.requests[0].request_id.isascii()


def test_a_good_request_id_is_echoed(waiting: Peer) -> None:
    """Byte for byte."""
    waiting.data_received(GET[:-2] + b"X-Request-Id: order 17/a\r\n\r\n")

    waiting.app.requests[0].respond(200, b"")

    assert b"x-request-id: order 17/a\r\n" in waiting.transport.sent
