"""Versions of models: publish, list, show, resolve, promote, verify, fetch.

The rules are here, the places are behind `Backend`. A version is never changed once it is
published. The store never runs a network: whoever publishes passes the check that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from model_store.aliases import alias_bytes, parse_aliases
from model_store.backend import Backend
from model_store.local import LocalFolder
from model_store.location import backend_at
from model_store.metadata import METADATA_FILE, MODEL_FILES, Draft, FileRecord, Metadata
from model_store.names import (
    ALIASES,
    LATEST,
    is_version,
    require_alias,
    require_model,
    require_version,
)
from model_store.verify import VerifiedVersion, require_content
from nimbusguard.contract.errors import (
    ArtifactCorrupted,
    InvalidRequest,
    Unavailable,
    VersionNotFound,
)

_ATTEMPTS: Final = 100
"""Tries against other publishers or promoters before giving up; each failed one means that another
succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is to be published. The bytes that are checked are the bytes that are stored."""

    draft: Draft
    files: Mapping[str, bytes]
    """File name to content; `model.pt` and `model.onnx` at least."""

    @classmethod
    def from_directory(cls, directory: Path, draft: Draft) -> Candidate:
        """A candidate of the model files that lie in a folder.

        Raises:
            ArtifactCorrupted: A file is missing or cannot be read.
        """
        files = {}
        for name in MODEL_FILES:
            try:
                files[name] = (directory / name).read_bytes()
            except OSError as error:
                message = f"{name}: expected a readable file in {directory}, got {error.strerror}"
                raise ArtifactCorrupted(message) from error
        return cls(draft=draft, files=files)


Check = Callable[[Mapping[str, bytes]], object]
"""Runs the files of a candidate and raises if they are no sound network; its result is not used."""


class ModelStore:
    """A folder of models with their versions and aliases."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def uri(self) -> str:
        """Where the store is."""
        return self._backend.uri

    def models(self) -> list[str]:
        """Names of the models that have a version."""
        return [name for name in self._backend.models() if self._backend.versions(name)]

    def versions(self, name: str) -> list[str]:
        """Published versions of a model, oldest first."""
        return [str(number) for number in self._backend.versions(require_model(name))]

    def version_uri(self, name: str, version: str) -> str:
        """The `storageUri` of a version."""
        return f"{self.uri}/{require_model(name)}/{require_version(version)}"

    def aliases(self, name: str) -> dict[str, str]:
        """Alias to version; aliases that this code does not know are kept.

        Raises:
            ArtifactCorrupted: `aliases.json` is no object of version numbers.
        """
        return parse_aliases(self._backend.read_aliases(require_model(name)).content)

    def resolve(self, name: str, reference: str) -> str:
        """The version that a reference means now.

        Args:
            name: The model.
            reference: A version, an alias, or `latest` for the highest version.

        Raises:
            InvalidRequest: The reference is none of these.
            VersionNotFound: There is no such version, or nothing was promoted to the alias.
        """
        published = self.versions(name)
        if reference == LATEST:
            version = published[-1] if published else None
        elif is_version(reference):
            version = reference
        elif reference in ALIASES:
            version = self.aliases(name).get(reference)
        else:
            expected = f"a version, {LATEST} or an alias ({', '.join(ALIASES)})"
            message = f"version of {name}: expected {expected}, got {reference!r}"
            raise InvalidRequest(message)
        if version not in published:
            shown = ", ".join(published) if published else "none"
            target = f" (version {version})" if version and version != reference else ""
            message = f"{name}: no version {reference!r}{target} in {self.uri}; published: {shown}"
            raise VersionNotFound(message)
        return version

    def show(self, name: str, reference: str) -> Metadata:
        """The metadata of a version.

        Raises:
            VersionNotFound: There is no such version.
            ArtifactCorrupted: Its metadata is broken, or is that of another version.
        """
        version = self.resolve(name, reference)
        metadata = Metadata.from_bytes(self._read(name, version, METADATA_FILE))
        if (metadata.name, metadata.version) != (name, version):
            message = (
                f"{METADATA_FILE} in {self.version_uri(name, version)}: expected {name} version "
                f"{version}, got {metadata.name} version {metadata.version}; folders were swapped"
            )
            raise ArtifactCorrupted(message)
        return metadata

    def verify(self, name: str, reference: str) -> VerifiedVersion:
        """Read every file of a version and compare it with its digest.

        Raises:
            VersionNotFound: There is no such version.
            ArtifactCorrupted: A file is missing, truncated or changed; the message names it.
        """
        metadata = self.show(name, reference)
        files: dict[str, bytes] = {}
        for file, record in metadata.files.items():
            files[file] = self._read(name, metadata.version, file)
            require_content(file, record, files[file])
        return VerifiedVersion(metadata=metadata, files=files)

    def publish(
        self,
        candidate: Candidate,
        check: Check,
        *,
        now: datetime,
        version: str | None = None,
        force_reason: str | None = None,
    ) -> Metadata:
        """Publish a candidate as a new version.

        Args:
            candidate: Files and what is known of them.
            check: Runs the files; raises if they are not sound.
            now: When, with its zone.
            version: Its number; the next free one if left out.
            force_reason: Why it is published although the gate did not pass it; kept in the
                metadata. Not used if the gate passed it.

        Raises:
            InvalidRequest: The version exists, or the gate did not pass it and nobody forced it.
            ArtifactCorrupted: A model file is missing, or what `check` says.
            NonFiniteOutput: What `check` says.
        """
        if version is not None:
            require_version(version)
        draft = _gated(candidate.draft, force_reason)
        for file in MODEL_FILES:
            if file not in candidate.files:
                message = f"{file}: expected in every version, got {sorted(candidate.files)}"
                raise ArtifactCorrupted(message)
        check(candidate.files)
        self._backend.clean(draft.name, now)
        records = {file: FileRecord.of(content) for file, content in candidate.files.items()}
        for _ in range(_ATTEMPTS):
            number = version or str(self._backend.next_version(draft.name))
            metadata = draft.published(number, now, records)
            try:
                self._backend.create(draft.name, number, candidate.files, metadata.to_bytes())
            except FileExistsError as error:
                if version is None:
                    continue
                message = (
                    f"{draft.name} version {version} exists in {self.uri} or is being published; "
                    "a version is never changed, publish under another number"
                )
                raise InvalidRequest(message) from error
            return metadata
        message = f"{draft.name}: no free version in {self.uri} after {_ATTEMPTS} tries; try again"
        raise Unavailable(message)

    def promote(self, name: str, alias: str, reference: str) -> str | None:
        """Point an alias to a version whose files were verified first.

        Returns:
            The version it pointed to before, if any.

        Raises:
            InvalidRequest: Not an alias.
            VersionNotFound: There is no such version.
            ArtifactCorrupted: The version is broken.
        """
        require_alias(alias)
        version = self.verify(name, reference).metadata.version
        for _ in range(_ATTEMPTS):
            found = self._backend.read_aliases(name)
            aliases = parse_aliases(found.content)
            previous = aliases.get(alias)
            content = alias_bytes({**aliases, alias: version})
            if self._backend.replace_aliases(name, content, found.tag):
                return previous
        message = f"{name}: aliases in {self.uri} changed {_ATTEMPTS} times meanwhile; try again"
        raise Unavailable(message)

    def fetch(self, name: str, reference: str, into: Path) -> Path:
        """A verified version as a local folder.

        Args:
            name: The model.
            reference: A version, an alias or `latest`.
            into: Root of a local store that receives the version if it lies elsewhere.

        Returns:
            The folder of the version: in place for a local store, else below `into`.

        Raises:
            VersionNotFound: There is no such version.
            ArtifactCorrupted: A file is not what the metadata says.
        """
        verified = self.verify(name, reference)
        version = verified.metadata.version
        if isinstance(self._backend, LocalFolder):
            return self._backend.path(name, version)
        local = LocalFolder(into)
        try:
            local.create(name, version, verified.files, self._read(name, version, METADATA_FILE))
        except FileExistsError:
            ModelStore(local).verify(name, version)
        return local.path(name, version)

    def _read(self, name: str, version: str, file: str) -> bytes:
        try:
            return self._backend.read(name, version, file)
        except FileNotFoundError as error:
            where = self.version_uri(name, version)
            message = f"{file}: expected in {where}, got no such file"
            raise ArtifactCorrupted(message) from error


def open_store(location: str | Path) -> ModelStore:
    """The store at a path, a `file:///` or an `s3://` address.

    Raises:
        InvalidRequest: Another scheme, no bucket, or S3 without the extra that speaks it.
    """
    return ModelStore(backend_at(location))


def _gated(draft: Draft, force_reason: str | None) -> Draft:
    if draft.gate_passed:
        return draft
    if force_reason is None:
        message = (
            f"evaluation.gate.passed: expected true, got {draft.evaluation.get('gate')}; run the "
            "gate on this network, or force the publication with a reason"
        )
        raise InvalidRequest(message)
    return draft.forced(force_reason)
