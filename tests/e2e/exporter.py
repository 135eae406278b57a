"""The features of one workload as a scrape target: what the recording rules would record now."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.pipelines.history import NAMESPACE, WORKLOAD


@contextmanager
def features(values: Mapping[str, float]) -> Iterator[str]:
    """Expose features on a free port; the address."""

    class Handler(BaseHTTPRequestHandler):
        """Answers every GET with the page."""

        def do_GET(self) -> None:
            labels = f'namespace="{NAMESPACE}",workload="{WORKLOAD}"'
            lines = [f"nimbusguard:{name}{{{labels}}} {value}" for name, value in values.items()]
            body = "\n".join([*lines, ""]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
