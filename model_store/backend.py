"""What the store needs of a place to keep versions in: the seam between its rules and the IO."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple, Protocol

ALIASES_FILE: Final = "aliases.json"


class Aliases(NamedTuple):
    """`aliases.json` at one moment."""

    content: bytes | None
    """None if there is no such file yet."""
    tag: str | None
    """Changes whenever the content does; None if there is no such file yet."""


class Backend(Protocol):
    """A folder of models. Names and versions are checked by the caller.

    Every method raises `Unavailable` when the place cannot be reached, and `InvalidRequest` when
    it may not be written.
    """

    @property
    def uri(self) -> str:
        """Where it is, for people and for `storageUri`; without a trailing slash."""
        ...

    def models(self) -> list[str]:
        """Names of folders that may hold a model."""
        ...

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, ascending; empty for an unknown model."""
        ...

    def next_version(self, name: str) -> int:
        """A number above every version, unfinished ones included."""
        ...

    def read(self, name: str, version: str, file: str) -> bytes:
        """One file of a published version.

        Raises:
            FileNotFoundError: It has no such file.
        """
        ...

    def create(self, name: str, version: str, files: Mapping[str, bytes], metadata: bytes) -> None:
        """Publish a version: all of it or nothing, seen by readers at one moment.

        Raises:
            FileExistsError: The version exists, or another publisher holds its number.
        """
        ...

    def read_aliases(self, name: str) -> Aliases:
        """`aliases.json` of a model."""
        ...

    def replace_aliases(self, name: str, content: bytes, tag: str | None) -> bool:
        """Replace `aliases.json` if its tag is still `tag`; False if somebody was faster."""
        ...

    def clean(self, name: str, now: datetime) -> list[str]:
        """Remove what publishers that died left behind; the removed names."""
        ...
