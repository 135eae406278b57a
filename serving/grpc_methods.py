"""Registers gRPC services so that a message which is no protobuf is its sender's mistake.

gRPC's own answer to one is UNKNOWN, and a traceback in the log. Generated code registers itself by
`add_…_to_server(servicer, server)`; a `Registrar` takes the server's place there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError


class Registrar:
    """Stands in for the server while a service registers its methods.

    Args:
        server: The real one.
        on_refused: Told of each message that was none.
    """

    def __init__(self, server: grpc.aio.Server, on_refused: Callable[[], None]) -> None:
        self._server = server
        self._on_refused = on_refused

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Nothing: the same methods come by name as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the methods of a service."""
        wrapped = {name: self._wrap(handler) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, wrapped)
        self._server.add_generic_rpc_handlers((generic,))

    def _wrap(self, handler: Any) -> Any:
        decode, encode = _lenient(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary is not None:
            unary = self._unary(handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(unary, decode, encode)
        if handler.unary_stream is not None:
            stream = self._unary_stream(handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(stream, decode, encode)
        stream = self._stream_stream(handler.stream_stream)
        return grpc.stream_stream_rpc_method_handler(stream, decode, encode)

    def _unary(self, work: Any) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            if type(request) is DecodeError:
                await self._refuse(request, context)
            return await work(request, context)

        return handle

    def _unary_stream(self, work: Any) -> Any:
        async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
            if type(request) is DecodeError:
                await self._refuse(request, context)
            async for answer in work(request, context):
                yield answer

        return handle

    def _stream_stream(self, work: Any) -> Any:
        async def handle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for answer in work(self._decoded(requests, context), context):
                yield answer

        return handle

    async def _decoded(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if type(request) is DecodeError:
                await self._refuse(request, context)
            yield request

    async def _refuse(self, error: DecodeError, context: Any) -> None:
        self._on_refused()
        message = f"body: expected a protobuf message, got bytes that are none: {error}"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)


def _lenient(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """As `decode`, but what is no message comes back as the error."""

    def deserialize(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError as error:
            return error

    return deserialize
