"""An API server that answers from a table and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Api:
    """Its address, and the bodies of the POSTs by path."""

    url: str
    sent: dict[str, Any] = field(default_factory=dict)


@contextmanager
def api(answers: Mapping[tuple[str, str], Any]) -> Iterator[Api]:
    """Serve JSON answers by method and path; anything else is 404."""
    served = Api("")

    class Handler(BaseHTTPRequestHandler):
        """Looks the path up."""

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            served.sent[self.path] = json.loads(self.rfile.read(length))
            self._answer("POST")

        def _answer(self, method: str) -> None:
            answer = answers.get((method, self.path.partition("?")[0]))
            body = json.dumps({} if answer is None else answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(url: str) -> dict[str, object]:
    """One cluster, nobody."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
