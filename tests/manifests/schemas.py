"""Strict validators: the custom resources' own schemas, and Kubernetes' for everything else.

A CRD's schema lets unknown fields pass (the API server prunes them silently, so a misspelt field is
lost without a word); `strict` closes every object that lists its fields.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.manifests.rendering import Document

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "schemas"
KUBERNETES = "1.32"
"""The oldest version that KServe supports; what it does not know is not used."""

METADATA = {"name", "namespace", "labels", "annotations"}


def strict(schema: Any) -> Any:
    """The same schema with `additionalProperties: false` wherever properties are listed."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or (
        "additionalProperties" in schema
    )
    if (
        isinstance(schema.get("properties"), dict)
        and schema.get("type") == "object"
        and not open_ended
    ):
        closed["additionalProperties"] = False
    return closed


@cache
def custom_validator(kind: str, api_version: str) -> jsonschema.Draft202012Validator:
    """The validator of a custom resource; skips where the schemas are not beside the checkout."""
    if not FOLDER.is_dir():
        pytest.skip("the folder shared/schemas with the CRDs' schemas is not beside this checkout")
    group, version = api_version.split("/")
    path = FOLDER / f"{kind.lower()}-{group}-{version}.json"
    return jsonschema.Draft202012Validator(strict(json.loads(path.read_text())))


def is_custom(document: Document) -> bool:
    """Whether the object's group belongs to a CRD."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def problems(document: Document) -> list[str]:
    """Every unknown field, wrong type and missing field of one object."""
    unknown = [f"metadata.{key}" for key in document["metadata"].keys() - METADATA]
    if is_custom(document):
        validator = custom_validator(document["kind"], document["apiVersion"])
        return unknown + [
            f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)
        ]
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [*unknown, f"{'.'.join(map(str, error.path))}: {error.message}"]
    return unknown
