"""A store in a local folder: write aside, fsync, rename.

A publisher writes into `.staging-<id>` beside the versions, on the same file system, and holds a
lock on that folder while it lives. One `rename` then makes the version: the kernel refuses it if
the target is there already, so of two publishers exactly one wins. The kernel also drops the lock
of a publisher that was killed, which is how leftovers are told from work in progress.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from model_store.backend import ALIASES_FILE, Aliases
from model_store.metadata import METADATA_FILE
from model_store.names import is_version
from nimbusguard.contract.errors import InvalidRequest

_STAGING: Final = ".staging-"
_ALIASES_ASIDE: Final = ".aliases-"


class LocalFolder:
    """Versions in a folder of a local POSIX file system."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def uri(self) -> str:
        """The absolute path."""
        return str(self._root)

    def models(self) -> list[str]:
        """Names of folders that may hold a model."""
        return sorted(entry.name for entry in _folders(self._root))

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, ascending."""
        return sorted(
            int(entry.name)
            for entry in _folders(self._root / name)
            if is_version(entry.name) and (entry / METADATA_FILE).is_file()
        )

    def next_version(self, name: str) -> int:
        """A number above every folder that is named like a version."""
        taken = (int(entry.name) for entry in _folders(self._root / name) if is_version(entry.name))
        return max(taken, default=0) + 1

    def path(self, name: str, version: str) -> Path:
        """The folder of a version, whether or not it exists."""
        return self._root / name / version

    def read(self, name: str, version: str, file: str) -> bytes:
        """One file of a published version."""
        return (self.path(name, version) / file).read_bytes()

    def create(self, name: str, version: str, files: Mapping[str, bytes], metadata: bytes) -> None:
        """Publish a version with one rename."""
        model = self._root / name
        with _explained(self.uri):
            model.mkdir(parents=True, exist_ok=True)
            _sync_folder(self._root)
            with _staging(model) as aside:
                for file, content in {**files, METADATA_FILE: metadata}.items():
                    _write(aside / file, content)
                _sync_folder(aside)
                try:
                    aside.rename(model / version)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                        raise
                    raise FileExistsError(version) from error
            _sync_folder(model)

    def read_aliases(self, name: str) -> Aliases:
        """`aliases.json` of a model."""
        try:
            content = (self._root / name / ALIASES_FILE).read_bytes()
        except FileNotFoundError:
            return Aliases(None, None)
        return Aliases(content, hashlib.sha256(content).hexdigest())

    def replace_aliases(self, name: str, content: bytes, tag: str | None) -> bool:
        """Compare and swap under a lock that the kernel drops with its holder."""
        model = self._root / name
        with _explained(self.uri), _locked(model):
            if self.read_aliases(name).tag != tag:
                return False
            # Only the holder of the lock writes here, so what lies aside is of a dead one.
            for left_over in model.glob(f"{_ALIASES_ASIDE}*"):
                left_over.unlink()
            aside = model / f"{_ALIASES_ASIDE}{uuid.uuid4().hex}"
            _write(aside, content)
            aside.replace(model / ALIASES_FILE)
            _sync_folder(model)
            return True

    def clean(self, name: str, now: datetime) -> list[str]:  # noqa: ARG002 - locks tell, not age
        """Remove the staging folders whose publishers are dead."""
        return [
            entry.name
            for entry in _folders(self._root / name, hidden=True)
            if entry.name.startswith(_STAGING) and _remove_if_abandoned(entry)
        ]


def _folders(parent: Path, *, hidden: bool = False) -> list[Path]:
    try:
        entries = list(parent.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(
        entry for entry in entries if entry.name.startswith(".") == hidden and entry.is_dir()
    )


@contextmanager
def _staging(model: Path) -> Iterator[Path]:
    """A locked folder to write into; removed unless it was renamed away."""
    aside, descriptor = _new_staging(model)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(descriptor)


def _new_staging(model: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock.

    Until it is locked, a cleaner may take it for a leftover and remove it; then another is made.
    """
    while True:
        aside = model / f"{_STAGING}{uuid.uuid4().hex}"
        aside.mkdir()
        try:
            descriptor = os.open(aside, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if aside.exists():
            return aside, descriptor
        os.close(descriptor)


def _remove_if_abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        # A publisher renames while it holds the lock, so a folder still found here has none. If it
        # was renamed before, nothing is found: its name is never used again.
        if not folder.exists():
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn a refusal by the file system into an error that says where and why."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        message = f"store {uri}: expected a folder that may be written, got {error.strerror}"
        raise InvalidRequest(message) from error
