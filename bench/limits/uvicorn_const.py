"""The raw limit: uvicorn, one body parsed with orjson, one constant answer, nothing else."""

from __future__ import annotations

import argparse
from typing import Any, Final

import orjson

from bench.limits.asgi import Receive, Send, read_body, send_json, serve

ANSWER: Final = orjson.dumps(
    {"predictions": [{"action_index": 3, "q_values": [-0.41, 0.02, 0.55, 0.83, 0.79]}]}
)


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Parse a posted body and answer the constant; a GET is the readiness check."""
    if scope["method"] == "POST":
        orjson.loads(await read_body(receive))
    await send_json(send, ANSWER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http_port", type=int, required=True)
    serve(app, parser.parse_args().http_port)
