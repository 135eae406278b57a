"""`grpc.health.v1`, from the model's readiness at the moment of the question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nimbusguard.contract.errors import Unavailable
from serving.calls import ModelService

_Status = health_pb2.HealthCheckResponse
_WATCH_INTERVAL_S: Final = 0.25


class HealthServicer(health_pb2_grpc.HealthServicer):
    """The health of the server, under the empty name, and of its services, under theirs.

    Args:
        service: Knows whether it is ready.
        names: Of the gRPC services that share this health.
    """

    def __init__(self, service: ModelService[Any, Any], *names: str) -> None:
        self._service = service
        self._names = ("", *names)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Serve no more: who watches is told so, and its stream ends."""
        self._stopping.set()

    async def Check(self, request: Any, context: Any) -> Any:
        """The status now."""
        if request.service not in self._names:
            message = f"service: expected one of {self._names}, got {request.service[:60]!r}"
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        return _Status(status=self._status())

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The status now and whenever it changes."""
        known = request.service in self._names
        last = None
        while True:
            # Asked before the status is: an end that comes while one is sent is told in the next.
            ends = self._stopping.is_set()
            status = self._status() if known else _Status.SERVICE_UNKNOWN
            if status != last:
                last = status
                yield _Status(status=status)
            if ends:
                return
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_WATCH_INTERVAL_S):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _status(self) -> int:
        if self._stopping.is_set():
            return int(_Status.NOT_SERVING)
        try:
            self._service.check_ready()
        except Unavailable:
            return int(_Status.NOT_SERVING)
        return int(_Status.SERVING)
