"""The raw limit with the network in it: uvicorn, orjson, one TorchScript forward a request."""

from __future__ import annotations

import argparse
from typing import Any

import orjson
import torch

from bench.limits.asgi import App, Receive, Send, read_body, send_json, serve


def application(model_file: str) -> App:
    """An application around one network: states (B, 11) in, Q-values (B, 5) out."""
    torch.set_num_threads(1)
    model = torch.jit.freeze(torch.jit.load(model_file).eval())  # type: ignore[no-untyped-call]

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await send_json(send, b"{}")
            return
        instances = orjson.loads(await read_body(receive))["instances"]
        with torch.inference_mode():
            q_values = model(torch.tensor(instances, dtype=torch.float32))  # (B, A)
        await send_json(send, orjson.dumps({"predictions": q_values.tolist()}))

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http_port", type=int, required=True)
    parser.add_argument("--model_file", required=True)
    args = parser.parse_args()
    serve(application(args.model_file), args.http_port)
