"""The S3 server of the tests as a process of its own, and what leads the AWS libraries to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.processes import start


@contextmanager
def s3_environment() -> Iterator[dict[str, str]]:
    """All that the AWS libraries read from the environment; nothing of this machine's."""
    process = start([sys.executable, Path(__file__).parent / "s3_server.py"])
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(process.first_line())}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "tester",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        process.end()
