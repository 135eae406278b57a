"""The hop over V2 REST with binary tensors, on asyncio and httptools.

Through httpx one exchange costs 1 to 2 ms, more than all else together (docs/performance.md). So
this small client is ours: persistent connections, one exchange at a time on each, renewed from time
to time so that new predictor pods get their share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import httptools
import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import DeadlineExceeded, PredictorUnavailable
from serving.calls import Trace
from transformer.explain_tensors import (
    SHAPES,
    HopExplanation,
    Tensor,
    explanation_from,
    values_of,
)
from transformer.hop import (
    HopAnswer,
    authority,
    error_text,
    first_traced,
    joined_ids,
    refusal,
    require_finite,
    require_identity,
    require_tensor,
)

_OK: Final = 200
_MAX_DIGITS: Final = 20
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_CONNECTION_AGE_S: Final = 30.0
"""A Service balances connections, not requests, so a connection must not live for ever."""
_RETRY_DELAYS_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Between attempts after a connection failed: 0.63 s in all, a third of the default deadline."""


_Q_VALUES_OUTPUT: Final = b'{"name":"q_values","parameters":{"binary_data":true}}'
_EXPLANATION_OUTPUTS: Final = b",".join(
    b'{"name":"%b","parameters":{"binary_data":true}}' % name.encode() for name in SHAPES
)


class ConnectionLostError(Exception):
    """The connection ended before the answer; the exchange may be tried again."""


class _Response:
    """One response as it comes in."""

    __slots__ = ("body", "headers", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True


class HopConnection(asyncio.Protocol):
    """One connection to the predictor, for one exchange at a time."""

    def __init__(self) -> None:
        self.created = time.perf_counter()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[_Response] | None = None
        self._response = _Response()
        self._body: list[bytes] = []
        self._body_bytes = 0

    @property
    def is_usable(self) -> bool:
        """Whether another exchange may begin here."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and time.perf_counter() - self.created < _CONNECTION_AGE_S
        )

    async def exchange(self, request: bytes) -> _Response:
        """Send a request and await its response.

        Raises:
            ConnectionLostError: There will be none.
        """
        if self._transport is None or self._transport.is_closing():
            message = "closed before the request was sent"
            raise ConnectionLostError(message)
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Close at once; a response that is still under way must not meet a later request."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the exchange under way."""
        self._transport = None
        self._fail(f"closed by the predictor ({exc})" if exc else "closed by the predictor")

    def data_received(self, data: bytes) -> None:
        """Parse."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not an HTTP response: {error}")
            self.close()

    def on_message_begin(self) -> None:
        """A response begins."""
        self._response = _Response()
        self._body = []
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._response.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > _MAX_ANSWER_BYTES:
            self._fail(f"more than {_MAX_ANSWER_BYTES} bytes")
            self.close()
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Complete the exchange."""
        response = self._response
        response.status = self._parser.get_status_code()
        response.keep_alive = self._parser.should_keep_alive()
        response.body = b"".join(self._body)
        waiter, self._waiter = self._waiter, None
        if not response.keep_alive and self._transport is not None:
            self._transport.close()
        if waiter is None:
            self.close()  # an answer to nothing: the connection has lost its order
        elif not waiter.done():
            waiter.set_result(response)

    def _fail(self, reason: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionLostError(reason))


class RestPredictorClient:
    """Asks a predictor over V2 REST.

    Args:
        host: Name or address.
        port: TCP port.
        model_name: The model's name there.
    """

    def __init__(self, host: str, port: int, model_name: str) -> None:
        self._host = host
        self._port = port
        self._head = (
            f"POST /v2/models/{model_name}/infer HTTP/1.1\r\nhost: {authority(host, port)}\r\n"
            "content-type: application/octet-stream\r\n"
        ).encode()
        self._idle: list[HopConnection] = []
        self._is_down = False

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self._host}:{self._port}"

    async def infer(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopAnswer:
        """See `PredictorClient`."""
        request = self._encode(state, traces)
        return _decode(await self._ask(request, deadline_at), len(state))

    async def explain(
        self, state: NDArray[np.float32], traces: Sequence[Trace], deadline_at: float
    ) -> HopExplanation:
        """See `PredictorClient`."""
        request = self._encode(state, traces, _EXPLANATION_OUTPUTS)
        return _decode_explanation(await self._ask(request, deadline_at), len(state))

    async def _ask(self, request: bytes, deadline_at: float) -> _Response:
        left_s = deadline_at - time.perf_counter()
        try:
            async with asyncio.timeout(max(left_s, 0.0)):
                return await self._exchange(request)
        except TimeoutError:
            message = f"predictor at {self._host}:{self._port}: no answer within the deadline"
            raise DeadlineExceeded(message) from None

    async def close(self) -> None:
        """Close idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, request: bytes) -> _Response:
        """One exchange; a connection that fails is replaced, for a while.

        After a failure the next callers try once: they must not queue behind an outage that is
        known. Any success ends that.
        """
        delays = iter(() if self._is_down else _RETRY_DELAYS_S)
        while True:
            connection: HopConnection | None = None
            try:
                connection = await self._acquire()
                response = await connection.exchange(request)
            except (OSError, ConnectionLostError) as error:
                delay = next(delays, None)
                if delay is None:
                    self._is_down = True
                    message = f"predictor at {self._host}:{self._port}: {error}"
                    raise PredictorUnavailable(message) from error
                await asyncio.sleep(delay)
            except asyncio.CancelledError:
                if connection is not None:
                    connection.close()
                raise
            else:
                self._is_down = False
                if connection.is_usable and response.keep_alive:
                    self._idle.append(connection)
                else:
                    connection.close()
                return response

    async def _acquire(self) -> HopConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(HopConnection, self._host, self._port)
        return connection

    def _encode(
        self,
        state: NDArray[np.float32],
        traces: Sequence[Trace],
        outputs: bytes = _Q_VALUES_OUTPUT,
    ) -> bytes:
        rows, features = state.shape
        header = (
            b'{"inputs":[{"name":"state","shape":[%d,%d],"datatype":"FP32",'
            b'"parameters":{"binary_data_size":%d}}],'
            b'"outputs":[%b]}' % (rows, features, state.nbytes, outputs)
        )
        traced = first_traced(traces)
        lengths = b"inference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n" % (
            len(header),
            len(header) + state.nbytes,
        )
        trace = _trace_headers(traced) if traced else b""
        ids = b"x-request-id: %b\r\n" % joined_ids(traces)
        return b"".join((self._head, ids, trace, lengths, header, state.tobytes()))


def _trace_headers(trace: Trace) -> bytes:
    lines = b"traceparent: %b\r\n" % (trace.traceparent or b"")
    return lines + (b"tracestate: %b\r\n" % trace.tracestate if trace.tracestate else b"")


def _decode(response: _Response, rows: int) -> HopAnswer:
    """The answer in a response.

    Raises:
        NimbusGuardError: It is an error, or no answer of a NimbusGuard predictor.
    """
    document, tail = _document_of(response)
    try:
        (output,) = (entry for entry in document["outputs"] if entry["name"] == "q_values")
        version, fingerprint = _identity(document)
        q_values = _q_values_of(output, tail, rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _foreign(response, "q_values") from error
    require_finite(q_values)
    return HopAnswer(q_values, version, fingerprint)


def _decode_explanation(response: _Response, rows: int) -> HopExplanation:
    """The explanation in a response; errors as of `_decode`."""
    document, tail = _document_of(response)
    tensors: dict[str, Tensor] = {}
    try:
        for entry in document["outputs"]:
            values, used = values_of(entry, tail)
            tail = tail[used:]
            tensors[entry["name"]] = Tensor(entry["datatype"], entry["shape"], values)
        version, fingerprint = _identity(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _foreign(response, ", ".join(SHAPES)) from error
    return explanation_from(tensors, rows, version, fingerprint)


def _document_of(response: _Response) -> tuple[Any, memoryview]:
    """The JSON part of a good response and the binary part behind it.

    Raises:
        NimbusGuardError: It is an error.
    """
    head, tail = _split(response)
    try:
        document = orjson.loads(head)
    except orjson.JSONDecodeError:
        document = response.body[:200].decode(errors="replace")
    if response.status != _OK:
        raise refusal(response.status, error_text(document))
    return document, tail


def _identity(document: Any) -> tuple[str, str]:
    """Version and fingerprint of who answered, which must be for our feature table."""
    version: Any = document.get("model_version")
    fingerprint: Any = (document.get("parameters") or {}).get("fingerprint")
    require_identity(version, fingerprint)
    return version, fingerprint


def _foreign(response: _Response, expected: str) -> PredictorUnavailable:
    message = f"predictor: expected a V2 answer with {expected}, got {response.body[:100]!r}"
    return PredictorUnavailable(message)


def _split(response: _Response) -> tuple[memoryview, memoryview]:
    """The JSON part and the binary data behind it."""
    body = memoryview(response.body)
    length = response.headers.get(b"inference-header-content-length", b"")
    is_sane = length.isdigit() and len(length) <= _MAX_DIGITS
    split = int(length) if is_sane else len(body)
    return body[:split], body[split:]


def _q_values_of(output: Mapping[str, Any], tail: memoryview, rows: int) -> NDArray[np.float32]:
    """The tensor, binary as we asked for it, or as JSON from a server that only speaks that."""
    require_tensor(output.get("datatype"), output.get("shape"), rows)
    if "data" in output:
        with np.errstate(over="ignore"):  # infinity is refused as such
            values = np.array(output["data"], dtype=np.float32)
    else:
        values = np.frombuffer(tail, dtype="<f4")
    return values.reshape(rows, ACTION_DIM)
