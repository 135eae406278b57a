"""The listening socket, the connections behind it, and how both come to an end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from serving.http import LINGER_S, HttpConnection
from serving.http_message import HttpRequest
from serving.settings import ServerSettings
from serving.tracing import RequestIds

_SWEEP_INTERVAL_S: Final = 1.0
_DRAIN_POLL_S: Final = 0.02
_BACKLOG: Final = 2048


class HttpServer:
    """Serves one application on one address; shared by all of its connections.

    Args:
        settings: Limits and timeouts.
        handle: Answers a request, now or later, exactly once; must not raise.
        observe: Counts an answer.
    """

    def __init__(
        self,
        settings: ServerSettings,
        handle: Callable[[HttpRequest], None],
        observe: Callable[[HttpRequest, int], None],
    ) -> None:
        self.max_body_bytes = settings.max_body_bytes
        self.is_draining = False
        self.date = formatdate(usegmt=True).encode()
        self.connections: set[HttpConnection] = set()
        self.handle = handle
        self.observe = observe
        self._settings = settings
        self.ids = RequestIds()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._listener: socket.socket | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen.

        Args:
            host: Address to bind.
            port: Port to bind; 0 takes a free one.

        Returns:
            The port.

        Raises:
            OSError: The address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # A second descriptor of the same socket, to empty the backlog after the first is closed.
        self._listener = listener.dup()
        self._listener.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, sock=listener, backlog=_BACKLOG)
        self._sweeper = loop.create_task(self._sweep())
        return int(self._listener.getsockname()[1])

    async def drain(self, grace_s: float) -> None:
        """Stop listening, answer everything that was accepted, close.

        A caller may have sent a request on an idle connection that has not been read yet; so idle
        connections stay open for `drain_idle_s` after their last sign of life. Each answer now
        says `Connection: close`.
        """
        self.is_draining = True
        if self._server is not None:
            self._server.close()
            await self._accept_backlog()
        began = time.perf_counter()
        while self.connections and time.perf_counter() - began < grace_s:
            self._close_idle(max(began, 0.0))
            await asyncio.sleep(_DRAIN_POLL_S)
        for connection in tuple(self.connections):
            connection.close()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _connect(self) -> HttpConnection:
        return HttpConnection(self)

    async def _accept_backlog(self) -> None:
        """Take over the connections that the kernel had accepted for us and we had not."""
        listener = self._listener
        if listener is None:
            return
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                break
            accepted.setblocking(False)
            await loop.connect_accepted_socket(self._connect, accepted)
        listener.close()

    def _close_idle(self, began: float) -> None:
        now = time.perf_counter()
        for connection in tuple(self.connections):
            quiet_s = now - max(connection.last_active, began)
            if connection.is_idle and quiet_s > self._settings.drain_idle_s:
                connection.close()

    async def _sweep(self) -> None:
        """Once a second: the date, idle connections, and requests that never end."""
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            self.date = formatdate(usegmt=True).encode()
            now = time.perf_counter()
            for connection in tuple(self.connections):
                quiet_s = now - connection.last_active
                too_idle = connection.is_idle and quiet_s > self._settings.keep_alive_s
                too_slow = connection.is_reading and quiet_s > self._settings.receive_timeout_s
                too_long = connection.is_lingering and quiet_s > LINGER_S
                if too_idle or too_slow or too_long:
                    connection.close()
