"""A real haproxy before the pods, told of each by its runtime socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from tests.live.programs import program
from tests.live.stack import Process, start, wait_until

SLOTS = 40
"""Pods that it can know at once; far above what any run asks for."""
_CONFIGURATION = """
global
  stats socket {socket} mode 600 level admin
  maxconn 2000
defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 10s
  option redispatch
  retries 2
frontend service
  bind 127.0.0.1:{port}
  default_backend pods
backend pods
  balance leastconn
  server-template pod 1-{slots} 127.0.0.1:1 check inter 500ms rise 1 fall 2 disabled
"""


class Balancer:
    """Spreads requests over the pods that it was told of: a Service and its endpoints."""

    def __init__(self, folder: Path, workload: str) -> None:
        self._socket = folder / f"haproxy-{workload}.sock"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        configuration = folder / f"haproxy-{workload}.cfg"
        configuration.write_text(
            _CONFIGURATION.format(socket=self._socket, port=self.port, slots=SLOTS)
        )
        self._process: Process = start(
            [program("haproxy"), "-db", "-f", str(configuration)],
            log=folder / f"haproxy-{workload}.log",
        )
        self._slots: dict[str, int] = {}
        wait_until("haproxy listens", self._socket.exists, 10.0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __contains__(self, pod: str) -> bool:
        return pod in self._slots

    async def add(self, pod: str, port: int) -> None:
        """Send requests to a pod as soon as it answers."""
        slot = next(n for n in range(1, SLOTS + 1) if n not in self._slots.values())
        self._slots[pod] = slot
        await self._tell(f"set server pods/pod{slot} addr 127.0.0.1 port {port}")
        await self._tell(f"set server pods/pod{slot} state ready")

    async def remove(self, pod: str) -> None:
        """Send no more; what is under way may end."""
        await self._tell(f"set server pods/pod{self._slots.pop(pod)} state maint")

    def end(self) -> None:
        self._process.end()

    async def _tell(self, command: str) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        writer.write(f"{command}\n".encode())
        answer = (await reader.read()).decode().strip()
        writer.close()
        await writer.wait_closed()
        # A change of address is reported; everything else that is said is an error.
        assert not answer or "changed" in answer or "no need" in answer, answer
