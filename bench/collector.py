"""`python -m bench.collector`: takes traces over OTLP/gRPC and throws them away.

It answers as a collector does and reads nothing, so that what is measured is the cost of the
services. `GET /` says how many exports came.
"""

from __future__ import annotations

import argparse
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final

import grpc

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Sink(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every export is welcome."""

    exports = 0

    def service(self, handler_call_details: Any) -> Any:
        """The handler of the one method that there is."""
        if handler_call_details.method != _METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(self._export)

    def _export(self, request: bytes, context: Any) -> bytes:  # noqa: ARG002 - the library's names
        self.exports += 1
        return b""


def main(http_port: int, grpc_port: int) -> None:
    """Serve until ended."""
    sink = Sink()
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(sink,))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    server.start()

    class Counted(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = str(sink.exports).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            """Say nothing."""

    HTTPServer(("127.0.0.1", http_port), Counted).serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http_port", type=int, required=True)
    parser.add_argument("--grpc_port", type=int, required=True)
    args = parser.parse_args()
    main(args.http_port, args.grpc_port)
