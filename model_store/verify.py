"""Whether the files of a version are what its metadata says. Pure but for reading a folder.

A file is read once: the bytes that were hashed are the bytes that are then loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_store.metadata import METADATA_FILE, FileRecord, Metadata
from nimbusguard.contract.errors import ArtifactCorrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedVersion:
    """A version whose every byte was checked."""

    metadata: Metadata
    files: Mapping[str, bytes]
    """Name to content of every file that the metadata lists."""


def require_content(name: str, record: FileRecord, content: bytes) -> None:
    """Refuse a file that differs from its record.

    Raises:
        ArtifactCorrupted: Its size or its digest differs.
    """
    found = FileRecord.of(content)
    if found.size != record.size:
        message = (
            f"{name}: expected {record.size} bytes as in {METADATA_FILE}, got {found.size}; "
            "copy or publish the version again"
        )
        raise ArtifactCorrupted(message)
    if found.sha256 != record.sha256:
        message = (
            f"{name}: expected SHA-256 {record.sha256} as in {METADATA_FILE}, got {found.sha256}; "
            "the file was changed or belongs to another version; copy or publish it again"
        )
        raise ArtifactCorrupted(message)


def read_verified(directory: Path) -> VerifiedVersion:
    """Read and check one version directory, as a KServe `storageUri` mounts it.

    Raises:
        ArtifactCorrupted: A file is missing, unreadable or not what `metadata.json` says; the
            message names it.
    """
    metadata = Metadata.from_bytes(_read(directory, METADATA_FILE))
    files: dict[str, bytes] = {}
    for name, record in metadata.files.items():
        files[name] = _read(directory, name)
        require_content(name, record, files[name])
    return VerifiedVersion(metadata=metadata, files=files)


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        message = f"{name}: expected a readable file in {directory}, got {error.strerror}"
        raise ArtifactCorrupted(message) from error
