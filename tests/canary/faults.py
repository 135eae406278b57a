"""A predictor that misbehaves: a proxy in front of a real one that delays or fails its answers.

Run as `python tests/canary/faults.py UPSTREAM_PORT DELAY_S ERROR_SHARE`; its first line of output
is the port.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n"
    b'content-length: 23\r\n\r\n{"error": "on purpose"}'
)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP message with its body; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return b""
    lengths = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    return head + (await reader.readexactly(lengths[0]) if lengths else b"")


async def main(port: int, delay_s: float, error_share: float) -> None:
    """Serve until ended."""
    rng = np.random.default_rng(0)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, sink = await asyncio.open_connection("127.0.0.1", port)
        while request := await read_message(reader):
            await asyncio.sleep(delay_s)
            if rng.random() < error_share:
                writer.write(FAILED)
            else:
                sink.write(request)
                writer.write(await read_message(upstream))
            await writer.drain()
        sink.close()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - whoever starts it reads this
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
