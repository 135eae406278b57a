"""A real Pushgateway on a free port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.live.processes import start, wait_until
from tests.live.programs import program
from tests.pipelines.history import answers


@contextlib.contextmanager
def pushgateway(folder: Path) -> Iterator[str]:
    """Its address; ended with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    # Debian's package keeps its figures in a file of the machine unless told otherwise.
    flags = [f"--web.listen-address={address}", "--log.level=warn"]
    flags.append(f"--persistence.file={folder / 'figures.db'}")
    process = start([program("prometheus-pushgateway"), *flags], log=folder / "gateway.log")
    try:
        wait_until("the Pushgateway is ready", lambda: answers(f"http://{address}/-/ready"), 30)
        yield f"http://{address}"
    finally:
        process.end()
