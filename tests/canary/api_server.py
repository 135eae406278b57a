"""A stand-in for the Kubernetes API server: custom resources that are read and JSON-patched.

It bumps `metadata.generation` when a spec changes and then, as the controllers would, reports the
new generation and readiness after a number of reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import jsonpatch

from tests.standin.background import BackgroundServer

Document = dict[str, Any]
CONDITIONS = ("Ready", "PredictorReady", "TransformerReady")


@dataclass
class ApiServer(BackgroundServer):
    """Objects by resource and name; every request is remembered."""

    documents: list[Document]
    reads_until_ready: int = 2
    fail_with: int | None = None
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.objects = {
            (document["kind"].lower() + "s", document["metadata"]["name"]): document
            for document in self.documents
        }
        for document in self.objects.values():
            document["metadata"]["generation"] = 1
            self._report(document)
        self._reads_left: dict[tuple[str, str], int] = {}
        handler = type("Handler", (_Handler,), {"api": self})
        self.listen(handler)

    def get(self, key: tuple[str, str]) -> Document | None:
        found = self.objects.get(key)
        if found is not None and key in self._reads_left:
            self._reads_left[key] -= 1
            if self._reads_left[key] <= 0:
                self._report(found)
        return found

    def patch(self, key: tuple[str, str], operations: list[Any]) -> tuple[int, Document]:
        try:
            after = jsonpatch.apply_patch(self.objects[key], operations)
        except jsonpatch.JsonPatchTestFailed as error:
            return 422, {"message": f"the test operation failed: {error}"}
        after["metadata"]["generation"] += 1
        self.objects[key] = after
        self._reads_left[key] = self.reads_until_ready
        return 200, after

    @staticmethod
    def _report(document: Document) -> None:
        document["status"] = {
            "observedGeneration": document["metadata"]["generation"],
            "conditions": [{"type": name, "status": "True"} for name in CONDITIONS],
        }


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer

    def do_GET(self) -> None:
        if self.api.fail_with:
            self._answer(self.api.fail_with, {"message": "not today"})
        elif (found := self.api.get(self._key())) is None:
            self._answer(404, {"message": "not found"})
        else:
            self._answer(200, found)

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.api.requests.append(("PATCH", self.path, self.headers["content-type"]))
        self._answer(*self.api.patch(self._key(), body))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        pass

    def _key(self) -> tuple[str, str]:
        resource, name = self.path.rsplit("/", 2)[1:]
        return resource, name

    def _answer(self, status: int, document: Document) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
