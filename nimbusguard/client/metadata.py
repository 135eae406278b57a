"""What the served model says about itself (V2 metadata), as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from nimbusguard.contract.errors import PredictorUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMetadata:
    """One input or output."""

    name: str
    datatype: str
    """As the Open Inference Protocol names it: FP32, INT64, BYTES and so on."""
    shape: tuple[int, ...]
    """-1 where the size varies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """The model as the transformer serves it."""

    name: str
    platform: str
    versions: tuple[str, ...]
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


def metadata_from(body: bytes) -> ModelMetadata:
    """Read the answer to `GET /v2/models/<model>`.

    Raises:
        PredictorUnavailable: The body is no model metadata.
    """
    try:
        document = orjson.loads(body)
        return ModelMetadata(
            name=_text(document["name"]),
            platform=_text(document["platform"]),
            versions=tuple(_text(version) for version in document.get("versions") or ()),
            inputs=tuple(_tensor(entry) for entry in document["inputs"]),
            outputs=tuple(_tensor(entry) for entry in document["outputs"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as exc:
        message = (
            "metadata: expected name, platform, versions, inputs and outputs as the Open "
            f"Inference Protocol defines them, got {body[:80]!r}"
        )
        raise PredictorUnavailable(message) from exc


def _tensor(entry: dict[str, Any]) -> TensorMetadata:
    return TensorMetadata(
        name=_text(entry["name"]),
        datatype=_text(entry["datatype"]),
        shape=tuple(_size(size) for size in entry["shape"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = f"expected a string, got {value!r}"
        raise TypeError(message)
    return value


def _size(value: object) -> int:
    # A proxy or a proto3 JSON mapping may carry int64 as a string.
    if isinstance(value, bool) or not isinstance(value, int | str):
        message = f"expected a whole number, got {value!r}"
        raise TypeError(message)
    try:
        return int(value)
    except ValueError as exc:
        message = f"expected a whole number, got {value!r}"
        raise TypeError(message) from exc
