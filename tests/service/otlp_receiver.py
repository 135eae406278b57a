"""`python -m tests.service.otlp_receiver FILE`: an OTLP/gRPC collector that writes down spans.

Prints its port; each span it receives becomes one JSON line of the file.
"""

from __future__ import annotations

import json
import sys
from concurrent import futures
from pathlib import Path
from typing import Any, TextIO

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc


class Receiver(pb_grpc.TraceServiceServicer):
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        for resource in request.resource_spans:
            about = attributes_of(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    line = describe(span) | {"service": about["service.name"]}
                    self._out.write(json.dumps(line) + "\n")
        self._out.flush()
        return pb.ExportTraceServiceResponse()


def describe(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "links": [link.span_id.hex() for link in span.links],
        "attributes": attributes_of(span.attributes),
        "status": span.status.code,
        "state": span.trace_state,
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
    }


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def main(path: str) -> None:
    with Path(path).open("w") as out:
        server = grpc.server(futures.ThreadPoolExecutor(1))
        pb_grpc.add_TraceServiceServicer_to_server(Receiver(out), server)
        sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
        sys.stdout.flush()
        server.start()
        server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
