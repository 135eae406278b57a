"""Where a store can be, and which backend speaks to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from model_store.backend import Backend
from model_store.local import LocalFolder
from model_store.objects import ObjectFolder
from nimbusguard.contract.errors import InvalidRequest

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def backend_at(location: str | Path) -> Backend:
    """The backend of a path, a `file:///` or an `s3://` address.

    Raises:
        InvalidRequest: Another scheme, no bucket, or S3 without the extra that speaks it.
    """
    if isinstance(location, Path):
        return LocalFolder(location)
    parts = urlsplit(location)
    if location and "://" not in location:
        return LocalFolder(Path(location))
    if parts.scheme == "file" and not parts.netloc:
        return LocalFolder(Path(parts.path))
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc):
        return _object_folder(parts.netloc, parts.path)
    message = f"store: expected a path, file:///… or s3://bucket/…, got {location!r}"
    raise InvalidRequest(message)


def _object_folder(bucket: str, path: str) -> ObjectFolder:
    prefix = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in prefix):
        message = f"store: expected a plain prefix, got {path!r}"
        raise InvalidRequest(message)
    try:
        from model_store.s3 import S3Objects
    except ModuleNotFoundError as error:
        message = f"store: s3:// needs {error.name}; install nimbusguard[s3]"
        raise InvalidRequest(message) from error
    return ObjectFolder(S3Objects(bucket, "/".join(prefix)))
