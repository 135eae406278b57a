"""The client of Prometheus: what it asks, what it makes of answers, and how it fails."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import httpx
import numpy as np
import orjson
import pytest

from nimbusguard.client.prometheus import (
    AsyncPrometheusClient,
    PrometheusClient,
    PrometheusSettings,
)
from nimbusguard.contract.errors import InvalidRequest, MetricsUnavailable
from nimbusguard.contract.features import INDEX, NAMES

SETTINGS = PrometheusSettings(endpoint="http://prometheus.test:9090")


def answer(*workloads: tuple[str, str]) -> dict[str, Any]:
    result = [
        {
            "metric": {
                "__name__": f"nimbusguard:{name}",
                "namespace": namespace,
                "workload": workload,
            },
            "value": [1755900000.1, str(index)],
        }
        for namespace, workload in workloads
        for index, name in enumerate(NAMES)
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Fake:
    """A Prometheus in process: answers every request alike and keeps what was asked."""

    def __init__(self, response: httpx.Response | Exception) -> None:
        self.response = response
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if isinstance(self.response, Exception):
            raise self.response
        return self.response

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.asked[-1].content.decode())


def ok(document: object) -> Fake:
    return Fake(httpx.Response(200, content=orjson.dumps(document)))


def sync_client(fake: Fake, settings: PrometheusSettings = SETTINGS) -> PrometheusClient:
    return PrometheusClient(settings, transport=httpx.MockTransport(fake))


def async_client(fake: Fake, settings: PrometheusSettings = SETTINGS) -> AsyncPrometheusClient:
    return AsyncPrometheusClient(settings, transport=httpx.MockTransport(fake))


async def test_a_workload_is_read_with_one_query() -> None:
    """Eleven features, one POST, the deadline passed on."""
    fake = ok(answer(("shop", "web")))

    async with async_client(fake) as client:
        row = await client.read("shop", "web", deadline_s=0.25)

    assert row.tolist() == [float(index) for index in range(len(NAMES))]
    assert len(fake.asked) == 1
    assert str(fake.asked[0].url) == "http://prometheus.test:9090/api/v1/query"
    assert fake.asked[0].method == "POST"
    assert fake.form["timeout"] == ["250ms"]
    assert fake.form["query"][0].count('namespace="shop", workload="web"') == 2
    assert "[60s]" in fake.form["query"][0]


def test_both_clients_ask_and_answer_alike() -> None:
    """The sync client is the async one without an event loop."""
    fakes = [ok(answer(("shop", "web"))), ok(answer(("shop", "web")))]

    async def read() -> np.ndarray[Any, np.dtype[np.float64]]:
        async with async_client(fakes[0]) as client:
            return await client.read("shop", "web")

    with sync_client(fakes[1]) as client:
        row = client.read("shop", "web")

    np.testing.assert_array_equal(row, asyncio.run(read()))
    assert fakes[0].form == fakes[1].form


async def test_many_workloads_are_read_with_one_query() -> None:
    """One without series is left out; whom that matters to is the caller's to say."""
    fakes = [ok(answer(("shop", "web"), ("test", "api"))) for _ in range(2)]
    workloads = [("shop", "web"), ("test", "api"), ("test", "gone")]

    async with async_client(fakes[0]) as client:
        rows = await client.read_many(workloads)
    with sync_client(fakes[1]) as sync:
        same = sync.read_many(workloads)

    assert rows.keys() == same.keys() == {("shop", "web"), ("test", "api")}
    assert len(fakes[0].asked) == 1


def test_any_query_is_answered_as_it_came() -> None:
    """Who wants something else than the features gets the document."""
    document = {"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}}
    settings = PrometheusSettings(endpoint="http://prometheus.test/prefix/", max_age_s=None)
    fake = ok(document)

    with sync_client(fake, settings) as client:
        assert client.query("scalar(vector(1))") == document

    assert fake.asked[0].url.path == "/prefix/api/v1/query"
    assert fake.form["query"] == ["scalar(vector(1))"]


def test_the_age_limit_can_be_left_to_prometheus() -> None:
    """Without `max_age_s` the query is the plain selector."""
    settings = PrometheusSettings(endpoint="http://prometheus.test", max_age_s=None)
    fake = ok(answer(("shop", "web")))

    with sync_client(fake, settings) as client:
        client.read("shop", "web")

    assert fake.form["query"] == ['{__name__=~"nimbusguard:.+", namespace="shop", workload="web"}']


def test_an_absent_feature_is_nan() -> None:
    """What that means is decided by the table."""
    document = answer(("shop", "web"))
    del document["data"]["result"][INDEX["queue_depth"]]

    with sync_client(ok(document)) as client:
        row = client.read("shop", "web")

    assert np.flatnonzero(np.isnan(row)).tolist() == [INDEX["queue_depth"]]


def test_a_workload_without_series_is_the_callers_to_check() -> None:
    """No retry helps against a wrong name."""
    with sync_client(ok(answer())) as client, pytest.raises(InvalidRequest) as caught:
        client.read("shop", "wbe")

    assert "workload shop/wbe: expected series nimbusguard:<feature>" in str(caught.value)
    assert not isinstance(caught.value, MetricsUnavailable)


def test_a_bad_name_is_never_sent() -> None:
    """It is refused before a query is built."""
    fake = ok(answer())

    with sync_client(fake) as client, pytest.raises(InvalidRequest, match=r"workload\.deployment"):
        client.read("shop", 'web"} or vector(1)#')

    assert fake.asked == []


def status(code: int, body: str, **headers: str) -> httpx.Response:
    stream = httpx.ByteStream(body.encode())
    return httpx.Response(code, headers=headers, stream=stream)


UNAVAILABLE: dict[str, tuple[Callable[[], httpx.Response | Exception], str]] = {
    "refused connection": (
        lambda: httpx.ConnectError("Connection refused"),
        "expected an answer, got none: Connection refused",
    ),
    "connect timeout": (lambda: httpx.ConnectTimeout(""), "got none: ConnectTimeout"),
    "read timeout": (lambda: httpx.ReadTimeout(""), "got none: ReadTimeout"),
    "full pool": (lambda: httpx.PoolTimeout(""), "got none: PoolTimeout"),
    "broken connection": (lambda: httpx.RemoteProtocolError("disconnected"), "disconnected"),
    "overload": (lambda: status(503, "busy"), "expected 200 and JSON, got 503 and 'busy'"),
    "bad gateway": (lambda: status(502, "<html>"), "expected 200 and JSON, got 502 and '<html>'"),
    "internal error": (
        lambda: status(500, '{"status": "error", "error": "query timed out"}'),
        "expected 200, got 500: query timed out",
    ),
    "refused query": (
        lambda: status(422, '{"status": "error", "error": "too many samples"}'),
        "expected 200, got 422: too many samples",
    ),
    "no access": (lambda: status(401, ""), "expected 200 and JSON, got 401 and ''"),
    "redirect": (
        lambda: status(302, '["moved"]', location="http://elsewhere.test"),
        'expected 200, got 302: ["moved"]',
    ),
    "not JSON": (lambda: status(200, "hello"), "expected 200 and JSON, got 200 and 'hello'"),
    "cut off": (lambda: status(200, '{"status":'), "expected 200 and JSON, got 200 and"),
    "not gzip": (lambda: status(200, "x" * 32, **{"content-encoding": "gzip"}), "got none: "),
    "another server": (lambda: status(200, '{"hello": 1}'), "expected 'success', got null"),
    "duplicates": (
        lambda: status(200, orjson.dumps(answer(("shop", "web"), ("shop", "web"))).decode()),
        "cpu_utilization: expected one series, got two",
    ),
}


@pytest.mark.parametrize("case", UNAVAILABLE)
async def test_a_failure_is_metrics_unavailable_with_its_cause(case: str) -> None:
    """Both clients alike; the message names the Prometheus, and a status stands for itself."""
    response, fragment = UNAVAILABLE[case]

    async with async_client(Fake(response())) as client:
        with pytest.raises(MetricsUnavailable) as caught:
            await client.read("shop", "web")
    with sync_client(Fake(response())) as sync, pytest.raises(MetricsUnavailable) as same:
        sync.read("shop", "web")

    assert str(caught.value) == str(same.value)
    assert str(caught.value).startswith("Prometheus at http://prometheus.test:9090: ")
    assert fragment in str(caught.value)
    assert caught.value.__cause__ is not None or "expected 200, got" in fragment


class Drip(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A body that never ends."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b" " * 1000

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b" " * 1000


async def test_an_endless_answer_is_given_up() -> None:
    """After `max_answer_bytes`; a wrong endpoint may be a log stream."""
    settings = PrometheusSettings(
        endpoint="http://prometheus.test", deadline_s=60, max_answer_bytes=10_000
    )

    async with async_client(Fake(httpx.Response(200, stream=Drip())), settings) as client:
        with pytest.raises(MetricsUnavailable, match="at most 10000 bytes, got more"):
            await client.read("shop", "web")
    with (
        sync_client(Fake(httpx.Response(200, stream=Drip())), settings) as sync,
        pytest.raises(MetricsUnavailable, match="at most 10000 bytes, got more"),
    ):
        sync.read("shop", "web")


async def test_a_slow_answer_ends_at_the_deadline() -> None:
    """However often bytes come: a read timeout alone would never fire."""
    settings = PrometheusSettings(endpoint="http://prometheus.test", max_answer_bytes=10**12)
    ticks = iter(range(1000))

    started = time.perf_counter()
    async with async_client(Fake(httpx.Response(200, stream=Drip())), settings) as client:
        with pytest.raises(MetricsUnavailable, match=r"expected an answer within 0\.050 s"):
            await client.read("shop", "web", deadline_s=0.05)
    took_s = time.perf_counter() - started
    sync = PrometheusClient(
        settings,
        transport=httpx.MockTransport(Fake(httpx.Response(200, stream=Drip()))),
        clock=lambda: float(next(ticks)),
    )
    with sync, pytest.raises(MetricsUnavailable, match=r"expected an answer within 3\.000 s"):
        sync.read("shop", "web", deadline_s=3)

    assert took_s < 5
    assert next(ticks) == 5


@pytest.mark.parametrize("deadline_s", [0.0, -1.0])
def test_without_time_left_nothing_is_asked(deadline_s: float) -> None:
    """A caller whose own deadline has passed."""
    fake = ok(answer(("shop", "web")))

    with sync_client(fake) as client, pytest.raises(MetricsUnavailable, match="no time was left"):
        client.read("shop", "web", deadline_s=deadline_s)

    assert fake.asked == []


@pytest.mark.parametrize(
    "endpoint",
    ["", "prometheus:9090", "ftp://p", "http://", "http://p:99999", "http://p/?q=1", "http://p/#a"],
)
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    """At start, not at the first query."""
    with pytest.raises(InvalidRequest, match="Prometheus endpoint: expected http"):
        PrometheusSettings(endpoint=endpoint)


@pytest.mark.parametrize(
    "name", ["deadline_s", "connect_timeout_s", "max_age_s", "max_connections", "max_answer_bytes"]
)
def test_a_setting_without_meaning_is_refused(name: str) -> None:
    """Zero seconds, bytes or connections."""
    with pytest.raises(InvalidRequest, match=f"{name}: expected a number above 0, got 0"):
        PrometheusSettings(endpoint="http://p", **{name: 0})


def test_a_password_is_sent_but_never_shown() -> None:
    """Basic authentication stands in the endpoint; messages and logs go without it."""
    settings = PrometheusSettings(endpoint="http://me:secret@prometheus.test:9090")
    fake = Fake(httpx.Response(500, text="oh"))

    with sync_client(fake, settings) as client, pytest.raises(MetricsUnavailable) as caught:
        client.read("shop", "web")
    with pytest.raises(InvalidRequest) as refused:
        PrometheusSettings(endpoint="ftp://me:secret@prometheus.test")

    assert fake.asked[0].headers["authorization"].startswith("Basic ")
    assert "secret" not in str(caught.value) + str(refused.value)


@contextmanager
def listener() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server on a free port that accepts and keeps its connections, and answers two requests."""
    server = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []
    body = orjson.dumps(answer(("shop", "web")))
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    def serve() -> None:
        connection, _ = server.accept()
        accepted.append(connection)
        for _ in range(2):
            while not connection.recv(65536).endswith(b"ms"):
                pass
            connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", accepted
    finally:
        thread.join(5)
        server.close()
        for connection in accepted:
            connection.close()


def test_connections_are_kept() -> None:
    """The second query goes over the connection of the first: the server accepts one only."""
    with (
        listener() as (endpoint, accepted),
        PrometheusClient(PrometheusSettings(endpoint=endpoint)) as client,
    ):
        first = client.read("shop", "web")
        second = client.read("shop", "web")

    np.testing.assert_array_equal(first, second)
    assert len(accepted) == 1


def test_an_unreachable_prometheus_fails_at_once() -> None:
    """Nobody listens: the operating system says so, and so does the error."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings = PrometheusSettings(endpoint=f"http://127.0.0.1:{port}")

    with PrometheusClient(settings) as client, pytest.raises(MetricsUnavailable) as caught:
        client.read("shop", "web")

    assert isinstance(caught.value.__cause__, httpx.ConnectError)


def test_a_silent_prometheus_ends_at_the_deadline() -> None:
    """It accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = PrometheusSettings(endpoint=f"http://127.0.0.1:{server.getsockname()[1]}")
        started = time.perf_counter()
        with PrometheusClient(settings) as client, pytest.raises(MetricsUnavailable) as caught:
            client.read("shop", "web", deadline_s=0.1)

    assert isinstance(caught.value.__cause__, httpx.ReadTimeout)
    assert time.perf_counter() - started < 5
