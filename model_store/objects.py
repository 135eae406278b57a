"""A store in an object store, which has no rename: `metadata.json` is written last.

A version exists from the moment its `metadata.json` does. Every object is created under the
condition that there is none (`If-None-Match: *`), so nothing is ever overwritten, and of two
publishers that want one number the slower is refused at its first object.

A publisher that was killed leaves objects without `metadata.json`. Whether it is dead cannot be
known from outside, so before they are removed an empty `metadata.json` is created in their place:
the publisher, should it be alive after all, is then refused at its last step. The number is spent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from model_store.backend import ALIASES_FILE, Aliases
from model_store.metadata import METADATA_FILE
from model_store.names import is_version

ABANDONED_AFTER: Final = timedelta(hours=1)
"""Age of the youngest object of an unfinished version from which its publisher counts as dead. A
publication takes seconds; an hour forgives clocks that differ."""
_TOMBSTONE: Final = b""


class Listed(NamedTuple):
    """One object of a listing."""

    key: str
    """Relative to the root of the store."""
    size: int
    modified: datetime


class Objects(Protocol):
    """The operations of an object store that are needed: the seam to the network.

    Every method raises `Unavailable` when the object store cannot be reached.
    """

    @property
    def uri(self) -> str:
        """The address of the root, without a trailing slash."""
        ...

    def folders(self) -> list[str]:
        """First parts of all keys."""
        ...

    def below(self, folder: str) -> list[Listed]:
        """Every object below a folder."""
        ...

    def read(self, key: str) -> bytes:
        """The content; raises FileNotFoundError."""
        ...

    def tag(self, key: str) -> str | None:
        """What changes with the content; None if there is no such object."""
        ...

    def create(self, key: str, content: bytes) -> None:
        """Write an object that does not exist; raises FileExistsError."""
        ...

    def replace(self, key: str, content: bytes, tag: str) -> bool:
        """Overwrite an object if its tag is still `tag`; False if not."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...


class ObjectFolder:
    """Versions below one prefix of an object store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @property
    def uri(self) -> str:
        """The address of the root."""
        return self._objects.uri

    def models(self) -> list[str]:
        """Names of folders that may hold a model."""
        return sorted(self._objects.folders())

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, ascending."""
        return sorted(
            number
            for number, found in self._listed(name).items()
            if METADATA_FILE in found and found[METADATA_FILE].size > 0
        )

    def next_version(self, name: str) -> int:
        """A number above every version, unfinished and spent ones included."""
        return max(self._listed(name), default=0) + 1

    def read(self, name: str, version: str, file: str) -> bytes:
        """One file of a published version."""
        return self._objects.read(f"{name}/{version}/{file}")

    def create(self, name: str, version: str, files: Mapping[str, bytes], metadata: bytes) -> None:
        """Publish a version: its files in the order of their names, then its metadata."""
        for file in sorted(files):
            self._claim(f"{name}/{version}/{file}", files[file])
        self._objects.create(f"{name}/{version}/{METADATA_FILE}", metadata)

    def _claim(self, key: str, content: bytes) -> None:
        """Create an object, or find that it holds the same bytes already.

        An answer can be lost on the way, and the try that follows then meets its own object. A
        rival with equal files passes here too; creating the metadata tells the two apart.
        """
        try:
            self._objects.create(key, content)
        except FileExistsError:
            try:
                same = self._objects.read(key) == content
            except FileNotFoundError:
                same = False
            if not same:
                raise

    def read_aliases(self, name: str) -> Aliases:
        """`aliases.json` of a model; the tag is taken first, so it is never newer than it says."""
        key = f"{name}/{ALIASES_FILE}"
        tag = self._objects.tag(key)
        if tag is None:
            return Aliases(None, None)
        return Aliases(self._objects.read(key), tag)

    def replace_aliases(self, name: str, content: bytes, tag: str | None) -> bool:
        """Compare and swap by the object store's own condition."""
        key = f"{name}/{ALIASES_FILE}"
        if tag is not None:
            return self._objects.replace(key, content, tag)
        try:
            self._objects.create(key, content)
        except FileExistsError:
            return False
        return True

    def clean(self, name: str, now: datetime) -> list[str]:
        """Spend the numbers of versions that nobody finishes, and remove their objects."""
        removed: list[str] = []
        for number, found in self._listed(name).items():
            metadata = found.pop(METADATA_FILE, None)
            if not found or (metadata is not None and metadata.size > 0):
                continue
            youngest = max(entry.modified for entry in found.values())
            if metadata is None:
                if now - youngest < ABANDONED_AFTER:
                    continue
                try:
                    self._objects.create(f"{name}/{number}/{METADATA_FILE}", _TOMBSTONE)
                except FileExistsError:
                    continue
            for entry in found.values():
                self._objects.delete(entry.key)
                removed.append(entry.key)
        return removed

    def _listed(self, name: str) -> dict[int, dict[str, Listed]]:
        """Version number to file name to object."""
        versions: defaultdict[int, dict[str, Listed]] = defaultdict(dict)
        for entry in self._objects.below(name):
            _, _, rest = entry.key.partition("/")
            number, _, file = rest.partition("/")
            if is_version(number) and file:
                versions[int(number)][file] = entry
        return dict(sorted(versions.items()))
