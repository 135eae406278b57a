"""`metadata.json`: what a model version is, typed and validated.

A `Draft` is what a trainer knows; `Metadata` is what stands in the store: the draft with a version,
a time and the digest of every file. Keys that this code does not know are kept, so that an older
program can copy what a newer one wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

import orjson

from model_store import fields as read
from model_store.names import is_file_name, is_model, is_version
from nimbusguard.contract.errors import ArtifactCorrupted, InvalidRequest
from nimbusguard.contract.fingerprint import fingerprint_of

METADATA_FILE: Final = "metadata.json"
TORCHSCRIPT_FILE: Final = "model.pt"
ONNX_FILE: Final = "model.onnx"
MODEL_FILES: Final[tuple[str, ...]] = (TORCHSCRIPT_FILE, ONNX_FILE)
"""The files that every version holds beside its metadata."""
_KEYS: Final = frozenset(
    {"name", "version", "created", "fingerprint", "features", "actions", "network", "files"}
    | {"training", "evaluation"}
)
_NETWORK_KEYS: Final = frozenset({"layers", "weights"})
_FILE_KEYS: Final = frozenset({"sha256", "size"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file of a version."""

    sha256: str
    """64 hexadecimal digits."""
    size: int
    """Bytes."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys, kept as they came."""

    @classmethod
    def of(cls, content: bytes) -> Self:
        """The record of a file with this content."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the files hold."""

    layers: tuple[int, ...]
    """Widths from the state to the Q-values."""
    weights: str
    """Digest of the weights alone, `sha256:<hex>`; does not depend on how they were written."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys, kept as they came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A version before it is published: everything but its number, its time and its digests.

    Raises:
        ArtifactCorrupted: A field is not what it must be; the message names it.
    """

    name: str
    features: tuple[Mapping[str, Any], ...]
    """The feature table that the network was trained with, in the order of its state."""
    actions: tuple[Mapping[str, Any], ...]
    """The actions, in the order of its Q-values."""
    network: Network
    training: Mapping[str, Any]
    """`algorithm` and `seed` at least; config, git commit and data as the trainer has them."""
    evaluation: Mapping[str, Any]
    """Judged figures. `gate.passed` decides whether the version may be published."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the document, kept as they came."""

    def __post_init__(self) -> None:
        if not is_model(self.name):
            read.refuse("name", "lower-case letters, digits and inner hyphens", self.name)
        _require_tables(self.features, self.actions)
        _require_layers(self.network.layers, len(self.features), len(self.actions))
        read.text(self.training, "algorithm", "training.algorithm")
        read.integer(self.training, "seed", "training.seed", minimum=0)
        gate = self.evaluation.get("gate", {})
        if not isinstance(gate, Mapping):
            read.refuse("evaluation.gate", "an object", gate)
        if not isinstance(gate.get("passed"), bool | None):
            read.refuse("evaluation.gate.passed", "true, false or null", gate["passed"])
        for key in ("features", "actions", "training", "evaluation"):
            read.require_json(getattr(self, key), key)
        read.require_further(self.network.extra, _NETWORK_KEYS, "network")
        read.require_further(self.extra, _KEYS, "extra")

    @property
    def fingerprint(self) -> str:
        """The contract that the network was trained for."""
        return fingerprint_of(self.features, self.actions)

    @property
    def gate_passed(self) -> bool:
        """Whether the gate judged this network and found it good."""
        return self.evaluation.get("gate", {}).get("passed") is True

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Draft:
        """Read a draft; number, time and digests, if it has them, are left out.

        Raises:
            ArtifactCorrupted: A field is missing or wrong.
        """
        return Draft(**_draft_fields(document))

    def forced(self, reason: str) -> Draft:
        """This draft with a note that it is published although no gate passed it.

        Raises:
            InvalidRequest: The reason is blank.
        """
        if not reason.strip():
            message = "reason: expected why a version is published without its gate, got nothing"
            raise InvalidRequest(message)
        gate = {"passed": None, **self.evaluation.get("gate", {}), "forced": True, "reason": reason}
        return replace(self, evaluation={**self.evaluation, "gate": gate})

    def published(
        self, version: str, created: datetime, files: Mapping[str, FileRecord]
    ) -> Metadata:
        """The metadata of this draft as one version of the store."""
        known = {entry.name: getattr(self, entry.name) for entry in fields(Draft)}
        return Metadata(**known, version=version, created=created, files=files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Draft):
    """A published version.

    Raises:
        ArtifactCorrupted: A field is not what it must be; the message names it.
    """

    version: str
    """A positive integer as text."""
    created: datetime
    """When it was published, with its zone; written in UTC."""
    files: Mapping[str, FileRecord]
    """Every file of the version but `metadata.json` itself."""

    def __post_init__(self) -> None:
        # A slotted dataclass is a new class, which the short form of super() does not know.
        Draft.__post_init__(self)
        if not is_version(self.version):
            read.refuse("version", "a positive integer as text", self.version)
        if self.created.tzinfo is None:
            read.refuse("created", "a time with its zone", self.created)
        for name, record in self.files.items():
            if not is_file_name(name) or name == METADATA_FILE:
                read.refuse("files", "plain file names other than metadata.json", name)
            read.require_further(record.extra, _FILE_KEYS, f"files.{name}")
        for name in MODEL_FILES:
            if name not in self.files:
                read.refuse(f"files.{name}", "a record", None)

    @classmethod
    def from_bytes(cls, content: bytes) -> Metadata:
        """Read `metadata.json`.

        Raises:
            ArtifactCorrupted: It is no JSON, a field is missing or wrong, or the fingerprint is not
                that of its own tables.
        """
        document = parse_document(content)
        metadata = Metadata(
            **_draft_fields(document),
            version=read.text(document, "version", "version"),
            created=read.moment(document, "created", "created"),
            files={
                str(name): _file_record(record, f"files.{name}")
                for name, record in read.mapping(document, "files", "files").items()
            },
        )
        stated = read.text(document, "fingerprint", "fingerprint")
        if stated != metadata.fingerprint:
            read.refuse("fingerprint", f"{metadata.fingerprint}, that of its own tables", stated)
        return metadata

    def to_json(self) -> dict[str, Any]:
        """The document, in the order in which a person reads it."""
        return {
            "name": self.name,
            "version": self.version,
            "created": self.created.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "fingerprint": self.fingerprint,
            "features": [dict(row) for row in self.features],
            "actions": [dict(row) for row in self.actions],
            "network": {
                "layers": list(self.network.layers),
                "weights": self.network.weights,
                **self.network.extra,
            },
            "files": {
                name: {"sha256": record.sha256, "size": record.size, **record.extra}
                for name, record in self.files.items()
            },
            "training": dict(self.training),
            "evaluation": dict(self.evaluation),
            **self.extra,
        }

    def to_bytes(self) -> bytes:
        """The content of `metadata.json`."""
        return (json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n").encode()


def parse_document(content: bytes) -> Mapping[str, Any]:
    """The JSON object of a metadata file.

    Raises:
        ArtifactCorrupted: It is no JSON object.
    """
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        message = f"{METADATA_FILE}: expected JSON, got {error}"
        raise ArtifactCorrupted(message) from error
    if not isinstance(document, Mapping):
        read.refuse("document", "an object", document)
    return document


def _draft_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    network = read.mapping(document, "network", "network")
    return {
        "name": read.text(document, "name", "name"),
        "features": read.rows(document, "features", "features"),
        "actions": read.rows(document, "actions", "actions"),
        "network": Network(
            layers=read.widths(network, "layers", "network.layers"),
            weights=read.text(network, "weights", "network.weights"),
            extra={key: network[key] for key in network if key not in _NETWORK_KEYS},
        ),
        "training": read.mapping(document, "training", "training"),
        "evaluation": read.mapping(document, "evaluation", "evaluation"),
        "extra": {key: document[key] for key in document if key not in _KEYS},
    }


def _file_record(record: object, where: str) -> FileRecord:
    if not isinstance(record, Mapping):
        read.refuse(where, "an object", record)
    return FileRecord(
        sha256=read.digest(record, "sha256", f"{where}.sha256"),
        size=read.integer(record, "size", f"{where}.size", minimum=0),
        extra={key: record[key] for key in record if key not in _FILE_KEYS},
    )


def _require_tables(
    features: tuple[Mapping[str, Any], ...], actions: tuple[Mapping[str, Any], ...]
) -> None:
    for index, row in enumerate(features):
        where = f"features[{index}]"
        for key in ("name", "unit", "absent"):
            read.text(row, key, f"{where}.{key}")
        low, high = (read.number(row, key, f"{where}.{key}") for key in ("min", "max"))
        if low >= high:
            read.refuse(f"{where}.max", f"a number above min {low:g}", high)
    for index, row in enumerate(actions):
        read.text(row, "name", f"actions[{index}].name")
        if not isinstance(row.get("change"), int) or isinstance(row["change"], bool):
            read.refuse(f"actions[{index}].change", "an integer", row.get("change"))


def _require_layers(layers: tuple[int, ...], inputs: int, outputs: int) -> None:
    if len(layers) < 2 or (layers[0], layers[-1]) != (inputs, outputs):
        expected = f"widths from {inputs} (features) to {outputs} (actions)"
        read.refuse("network.layers", expected, list(layers))
