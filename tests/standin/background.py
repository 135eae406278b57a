"""HTTP in a thread of the test's own process, on a free port of loopback."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class BackgroundServer:
    """Answers with a handler from `listen` to `stop`."""

    def listen(self, handler: type[BaseHTTPRequestHandler]) -> None:
        """Start; connections that are still open do not keep the process alive."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()
