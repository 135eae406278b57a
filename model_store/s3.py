"""Objects in S3 through fsspec: the calls, and what their failures mean. No rules of the store.

Credentials, region and endpoint are those of the AWS environment (`AWS_ENDPOINT_URL` for an
S3-compatible server). The server must honour conditional writes, as AWS does since 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import fsspec
import s3fs  # noqa: F401 - the implementation behind fsspec's s3; a missing extra shows here
from botocore.exceptions import BotoCoreError, NoCredentialsError  # type: ignore[import-untyped]

from model_store.objects import Listed
from nimbusguard.contract.errors import InvalidRequest, Unavailable

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30
_LOST: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
"""Error codes that mean: somebody else wrote this object first."""


class S3Objects:
    """The objects below `s3://bucket/prefix`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._root = f"{bucket}/{prefix}".rstrip("/")
        self._files: Any = fsspec.filesystem(
            "s3",
            use_listings_cache=False,
            skip_instance_cache=True,
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "read_timeout": READ_TIMEOUT_S,
                "retries": {"max_attempts": 2},
            },
        )

    @property
    def uri(self) -> str:
        """The address of the root."""
        return f"s3://{self._root}"

    def folders(self) -> list[str]:
        """First parts of all keys."""
        try:
            with self._explained():
                entries = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        return [_last(entry["name"]) for entry in entries if entry["type"] == "directory"]

    def below(self, folder: str) -> list[Listed]:
        """Every object below a folder."""
        with self._explained():
            entries = self._files.find(f"{self._root}/{folder}", detail=True)
        start = len(self._root) + 1
        return [
            Listed(name[start:], int(entry["size"]), entry["LastModified"])
            for name, entry in entries.items()
            if entry["type"] == "file"
        ]

    def read(self, key: str) -> bytes:
        """The content of an object."""
        with self._explained():
            content: bytes = self._files.cat_file(f"{self._root}/{key}", max_concurrency=1)
            return content

    def tag(self, key: str) -> str | None:
        """The ETag of an object."""
        try:
            with self._explained():
                return str(self._files.info(f"{self._root}/{key}")["ETag"])
        except FileNotFoundError:
            return None

    def create(self, key: str, content: bytes) -> None:
        """Write an object that does not exist."""
        with self._explained():
            self._files.pipe_file(f"{self._root}/{key}", content, mode="create")

    def replace(self, key: str, content: bytes, tag: str) -> bool:
        """Overwrite an object if its ETag is still `tag`."""
        try:
            with self._explained():
                self._files.pipe_file(f"{self._root}/{key}", content, IfMatch=tag)
        except (FileExistsError, FileNotFoundError):
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._explained():
            self._files.rm_file(f"{self._root}/{key}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn failures of S3 into ours; missing and existing objects stay what they are."""
        try:
            yield
        except FileNotFoundError as error:
            if _code(error) != "NoSuchBucket":
                raise
            message = f"store {self.uri}: expected an existing bucket, got {error}; create it first"
            raise InvalidRequest(message) from error
        except (PermissionError, NoCredentialsError) as error:
            message = f"store {self.uri}: expected access to it, got {error}; check the credentials"
            raise InvalidRequest(message) from error
        except OSError as error:
            if _code(error) in _LOST:
                raise FileExistsError(str(error)) from error
            if _code(error) == "NotImplemented":
                message = (
                    f"store {self.uri}: expected a server with conditional writes, got {error}"
                )
                raise InvalidRequest(message) from error
            message = f"store {self.uri}: expected an answer of S3, got {error}; try again"
            raise Unavailable(message) from error
        except BotoCoreError as error:
            message = f"store {self.uri}: expected an answer of S3, got {error}; try again"
            raise Unavailable(message) from error


def _code(error: OSError) -> str | None:
    """The error code of S3 that an error was made of."""
    response = getattr(error.__cause__, "response", None)
    if response is None:
        return None
    code: str | None = response.get("Error", {}).get("Code")
    return code


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
